//! Errors of reading PyTorch files.

use std::path::{Path, PathBuf};

use super::dtype::TorchDtype;
use crate::files::FileError;
use crate::formats::torch::pickle::PickleError;

/// Why a PyTorch file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TorchFileError {
    /// The system refused: missing file, permission, a file that became shorter.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file was not written by torch.save.
    #[error("{}: expected a file written by torch.save, found {found}", .path.display())]
    Foreign {
        /// Path of the file.
        path: PathBuf,
        /// A description of the file's first bytes.
        found: String,
    },
    /// The file would make Python call a function that only an attack needs.
    #[error("{}: it calls {name}, which is refused (nothing was executed); get the file from a source that you trust, or save only the weights: torch.save(model.state_dict(), …)", .path.display())]
    Refused {
        /// Path of the file.
        path: PathBuf,
        /// The requested name, with its module.
        name: String,
    },
    /// The file was written on a big-endian machine.
    #[error("{}: its numbers are big-endian, expected little-endian: save it again on an ordinary machine", .path.display())]
    BigEndian {
        /// Path of the file.
        path: PathBuf,
    },
    /// The file contains an invalid part.
    #[error("{}: {part}: {reason}; the file is damaged, incomplete or not as torch.save writes it: copy or save it again", .path.display())]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// The archive entry, storage, tensor or pickle position.
        part: String,
        /// What is wrong with that part.
        reason: String,
    },
    /// The saved object contains no model.
    #[error("{}: no model in it: expected a dict of tensors, by itself or under model_state_dict, model, state_dict or module, found {found}", .path.display())]
    NoModel {
        /// Path of the file.
        path: PathBuf,
        /// Description of the saved object.
        found: String,
    },
    /// Floats were requested from a tensor with another number format.
    #[error("{}: {name} is {dtype}, expected float32, float64, float16 or bfloat16", .path.display())]
    NotFloat {
        /// Path of the file.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
        /// Number format of its elements.
        dtype: TorchDtype,
    },
}

impl TorchFileError {
    pub(super) fn damaged(path: &Path, part: impl Into<String>, reason: impl Into<String>) -> TorchFileError {
        TorchFileError::Damaged { path: path.to_owned(), part: part.into(), reason: reason.into() }
    }

    /// `part` describes the pickle.
    pub(super) fn pickle<'a>(path: &'a Path, part: &'a str) -> impl FnOnce(PickleError) -> TorchFileError + 'a {
        move |error| match error {
            PickleError::Refused(name) => TorchFileError::Refused { path: path.to_owned(), name: shown(&name) },
            PickleError::Damaged { at, reason } => TorchFileError::damaged(path, format!("{part}, byte {at}"), reason),
        }
    }
}

/// A name from the file, escaped and truncated for a message.
pub(super) fn shown(name: &str) -> String {
    const SHOWN: usize = 100;
    let mut text = String::with_capacity(name.len().min(SHOWN));
    for c in name.chars().take(SHOWN) {
        match c {
            '\'' | '"' => text.push(c),
            c => text.extend(c.escape_debug()),
        }
    }
    if name.chars().nth(SHOWN).is_some() {
        text.push('…');
    }
    text
}

/// Module and name of a class, escaped and truncated for a message. The time does not grow with their lengths.
pub(super) fn class_name((module, name): (&str, &str)) -> String {
    format!("{}.{}", shown(module), shown(name))
}
