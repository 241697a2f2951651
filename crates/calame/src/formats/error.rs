//! What can be wrong with a saved model or a checkpoint.

use std::io;
use std::path::{Path, PathBuf};

use super::torch::TorchFileError;
use crate::files::FileError;
use crate::tokenizer::TokenizerError;

/// Why a model or a checkpoint cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The system refused: not found, not allowed, disk full.
    #[error("{}{}", .0, remedy(.0))]
    File(#[from] FileError),
    /// The folder holds no saved model.
    #[error("{} holds no model: expected {expected}; {remedy}", .path.display())]
    NotAModel {
        /// The file or folder given.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
        /// What to do.
        remedy: String,
    },
    /// A JSON file that is not what it should be.
    #[error("{}: not a valid {what}: {source}", .path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A configuration that calame cannot run.
    #[error("{}: {key} is {found}: expected {expected}", .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What it is.
        found: String,
        /// What it may be.
        expected: String,
    },
    /// A file of tensors that is damaged or of another format.
    #[error("{}: {reason}; the file is damaged, incomplete or of another format: copy or download it again", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Tensors that the model lacks, does not know, or that have another shape.
    #[error("{}: the tensors do not fit the model's shape as configured:{}", .path.display(), lines(.problems))]
    Tensors {
        /// The file.
        path: PathBuf,
        /// One line each.
        problems: Vec<String>,
    },
    /// A weight that is not a number.
    #[error("{}: {name} holds a number that is not finite (NaN or infinite): the training that wrote it diverged; use an earlier model or train again with a smaller learning rate", .path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The parameter.
        name: String,
    },
    /// A training state at a place that the run's batches do not have.
    #[error("{}: it stands at {found}, which a training of {steps_per_epoch} steps an epoch does not reach: the text, data.window, data.stride or data.batch_size is not what it was; set them back, or start a new run", .path.display())]
    Place {
        /// The checkpoint's folder.
        path: PathBuf,
        /// Step, epoch, batch and tokens as the checkpoint has them.
        found: String,
        /// Steps of an epoch of the run.
        steps_per_epoch: u64,
    },
    /// The tokenizer beside the model is not the one that it was trained with.
    #[error("{}: this is not the tokenizer that the model was trained with (SHA-256 {found}, config.json says {expected}): put the model's own tokenizer.json back", .path.display())]
    ForeignTokenizer {
        /// The tokenizer's file.
        path: PathBuf,
        /// The hash in config.json.
        expected: String,
        /// The hash of the file's tokenizer.
        found: String,
    },
    /// A file that another one names, or a link, that leads out of the model's folder.
    #[error("{}: {name:?} leads to {}, out of the folder: refused; put the file itself there", .path.display(), .found.display())]
    Outside {
        /// What names it.
        path: PathBuf,
        /// As it is named.
        name: String,
        /// Where it leads.
        found: PathBuf,
    },
    /// A file of PyTorch's cannot be read.
    #[error(transparent)]
    Torch(#[from] TorchFileError),
    /// The tokenizer cannot be read.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

impl CheckpointError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
        let error = FileError::new(action, path);
        move |source| CheckpointError::File(error(source))
    }

    pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> CheckpointError {
        CheckpointError::Damaged { path: path.to_owned(), reason: reason.into() }
    }
}

fn remedy(error: &FileError) -> String {
    error.remedy().map(|remedy| format!(" ({remedy})")).unwrap_or_default()
}

fn lines(problems: &[String]) -> String {
    /// More than these say nothing new.
    const SHOWN: usize = 20;
    let mut text: String = problems.iter().take(SHOWN).map(|p| format!("\n  {p}")).collect();
    if problems.len() > SHOWN {
        text += &format!("\n  … and {} more", problems.len() - SHOWN);
    }
    text
}
