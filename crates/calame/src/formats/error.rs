//! Errors of reading and writing models and checkpoints.

use std::io;
use std::path::{Path, PathBuf};

use super::torch::TorchFileError;
use crate::files::FileError;
use crate::model::ConfigError;
use crate::tokenizer::TokenizerError;

/// Why a model or a checkpoint cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The system refused to read or write: missing file, permission, full disk.
    #[error("{}{}", .0, remedy(.0))]
    File(#[from] FileError),
    /// There is nothing at the path of a model.
    #[error("{}: no such file or folder", .path.display())]
    Missing {
        /// The path that was given.
        path: PathBuf,
    },
    /// The path contains no saved model.
    #[error("{} holds no model: expected {expected}; {remedy}", .path.display())]
    NotAModel {
        /// The file or folder that was given.
        path: PathBuf,
        /// The files that were looked for.
        expected: &'static str,
        /// What the user should do instead.
        remedy: String,
    },
    /// A JSON file with invalid contents.
    #[error("{}: not a valid {what}: {source}", .path.display())]
    Json {
        /// Path of the JSON file.
        path: PathBuf,
        /// What the file should contain, as messages name it.
        what: &'static str,
        /// The parser's error, with line and column.
        source: serde_json::Error,
    },
    /// A model configuration that calame does not support.
    #[error("{}: {key} is {found}: expected {expected}", .path.display())]
    Config {
        /// Path of the configuration.
        path: PathBuf,
        /// The configuration key, or a description of the affected values.
        key: &'static str,
        /// The value found there.
        found: String,
        /// The values that are accepted instead.
        expected: String,
    },
    /// A file of weights that does not state the number of attention heads, which no tensor's shape shows.
    #[error("{}: the number of attention heads is unknown: neither the file nor a config.json next to it states it, and no tensor's shape shows it", .path.display())]
    UnknownHeads {
        /// Path of the file.
        path: PathBuf,
        /// C, the number of channels.
        n_embd: usize,
    },
    /// The number of heads that the caller gave is not the model's.
    #[error("{}: the model has {found} heads, --n-head is {given}: leave --n-head out, it is for files that do not state the number", .path.display())]
    HeadsDiffer {
        /// Path of the file or folder.
        path: PathBuf,
        /// The number that its files state.
        found: usize,
        /// The number that the caller gave.
        given: usize,
    },
    /// A file of tensors that is damaged or in another format.
    #[error("{}: {reason}; the file is damaged, incomplete or of another format: copy or download it again", .path.display())]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// The damage, and where it was found.
        reason: String,
    },
    /// Tensors that are missing, unexpected or have the wrong shape.
    #[error("{}: the tensors do not fit the model's shape as configured:{}", .path.display(), lines(.problems))]
    Tensors {
        /// Path of the file.
        path: PathBuf,
        /// One line for each tensor that does not fit.
        problems: Vec<String>,
    },
    /// A GPT-2 whose head does not give tokens.
    #[error("{}: this is {kind} ({class}), not a language model: its head, {head}, gives no tokens; expected a language model (GPT2LMHeadModel)", .path.display())]
    OtherHead {
        /// Path of the file.
        path: PathBuf,
        /// What the model does.
        kind: &'static str,
        /// Its class in transformers.
        class: &'static str,
        /// Name and shape of the head's weight.
        head: String,
    },
    /// A setting of the model that another program's format has no place for.
    #[error("{}: {format} cannot hold a model with {setting}: {reason}; {remedy}", .path.display())]
    CannotHold {
        /// Path of the file that was to be written.
        path: PathBuf,
        /// Name of the format.
        format: &'static str,
        /// Key and value of the setting.
        setting: String,
        /// What readers of the format would compute.
        reason: &'static str,
        /// The formats that hold it.
        remedy: &'static str,
    },
    /// A weight that is NaN or infinite.
    #[error("{}: {name} holds a number that is not finite (NaN or infinite): the training that wrote it diverged; use an earlier model or train again with a smaller learning rate", .path.display())]
    NotFinite {
        /// Path of the file.
        path: PathBuf,
        /// Name of the affected parameter.
        name: String,
    },
    /// A training state at a position that the run's batches never reach.
    #[error("{}: its position is {found}, which a training with {steps_per_epoch} steps per epoch never reaches: the text, data.window, data.stride or data.batch_size has changed; restore them, or start a new run", .path.display())]
    Place {
        /// Folder of the checkpoint.
        path: PathBuf,
        /// Step, epoch, batch and tokens of the checkpoint.
        found: String,
        /// Number of steps per epoch of the run.
        steps_per_epoch: u64,
    },
    /// The tokenizer next to the model is not the one it was trained with.
    #[error("{}: this is not the tokenizer that the model was trained with (SHA-256 {found}, config.json says {expected}): put the model's own tokenizer.json back", .path.display())]
    ForeignTokenizer {
        /// Path of the tokenizer file.
        path: PathBuf,
        /// The tokenizer hash in config.json.
        expected: String,
        /// The hash of the tokenizer in the file.
        found: String,
    },
    /// A file name or link that leads out of the model's folder.
    #[error("{}: {name:?} leads to {}, outside the folder, which is refused; copy the file into the folder", .path.display(), .found.display())]
    Outside {
        /// The file that contains the name.
        path: PathBuf,
        /// The name as it is written there.
        name: String,
        /// The path that the name resolves to.
        found: PathBuf,
    },
    /// A PyTorch file that cannot be read.
    #[error(transparent)]
    Torch(#[from] TorchFileError),
    /// A tokenizer that cannot be read.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

impl CheckpointError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
        let error = FileError::new(action, path);
        move |source| CheckpointError::File(error(source))
    }

    /// A conversion for `map_err`: the shape that `key` gives is none that a GPT-2 can have.
    pub(super) fn impossible_shape(path: &Path, key: &'static str) -> impl FnOnce(ConfigError) -> CheckpointError {
        move |error| CheckpointError::Config {
            path: path.to_owned(),
            key,
            found: error.to_string(),
            expected: "a shape that GPT-2 can have".to_owned(),
        }
    }

    pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> CheckpointError {
        CheckpointError::Damaged { path: path.to_owned(), reason: reason.into() }
    }
}

fn remedy(error: &FileError) -> String {
    error.remedy().map(|remedy| format!(" ({remedy})")).unwrap_or_default()
}

fn lines(problems: &[String]) -> String {
    /// Maximum number of problems listed; more would add nothing.
    const SHOWN: usize = 20;
    let mut text: String = problems.iter().take(SHOWN).map(|p| format!("\n  {p}")).collect();
    if problems.len() > SHOWN {
        text += &format!("\n  … and {} more", problems.len() - SHOWN);
    }
    text
}
