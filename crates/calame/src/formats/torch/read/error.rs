//! What can be wrong with a file of PyTorch's.

use std::path::{Path, PathBuf};

use super::dtype::TorchDtype;
use crate::files::FileError;
use crate::formats::torch::pickle::PickleError;

/// Why a file of PyTorch's cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TorchFileError {
    /// The system refused: not found, not allowed, shorter than it was.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file of another kind.
    #[error("{}: expected a file written by torch.save, found {found}", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it begins with.
        found: String,
    },
    /// The file would have Python run something.
    #[error("{}: it calls {name}: refused, nothing was run; expected tensors, numbers, strings, lists and dicts only: save the weights by themselves, torch.save(model.state_dict(), …)", .path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What it names, with its module.
        name: String,
    },
    /// Written on another kind of machine.
    #[error("{}: its numbers are big-endian, expected little-endian: save it again on an ordinary machine", .path.display())]
    BigEndian {
        /// The file.
        path: PathBuf,
    },
    /// A part that is not what it should be.
    #[error("{}: {part}: {reason}; the file is damaged, incomplete or not as torch.save writes it: copy or save it again", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The archive's entry, the storage, the tensor, or the place in the pickle.
        part: String,
        /// What is wrong there.
        reason: String,
    },
    /// An object without tensors where a model's are looked for.
    #[error("{}: no model in it: expected a dict of tensors, by itself or under model_state_dict, model or state_dict, found {found}", .path.display())]
    NoModel {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: String,
    },
    /// A tensor of whole numbers was asked for as floats.
    #[error("{}: {name} is {dtype}, expected float32, float64, float16 or bfloat16", .path.display())]
    NotFloat {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its format.
        dtype: TorchDtype,
    },
}

impl TorchFileError {
    pub(super) fn damaged(path: &Path, part: impl Into<String>, reason: impl Into<String>) -> TorchFileError {
        TorchFileError::Damaged { path: path.to_owned(), part: part.into(), reason: reason.into() }
    }

    /// `part` is what the pickle is.
    pub(super) fn pickle<'a>(path: &'a Path, part: &'a str) -> impl FnOnce(PickleError) -> TorchFileError + 'a {
        move |error| match error {
            PickleError::Refused(name) => TorchFileError::Refused { path: path.to_owned(), name: shown(&name) },
            PickleError::Damaged { at, reason } => TorchFileError::damaged(path, format!("{part}, byte {at}"), reason),
        }
    }
}

/// A name out of the file, fit for a message.
pub(super) fn shown(name: &str) -> String {
    const SHOWN: usize = 100;
    let plain = |c: char| if matches!(c, '\'' | '"') { c.to_string() } else { c.escape_debug().to_string() };
    let mut text: String = name.chars().take(SHOWN).map(plain).collect();
    if name.chars().nth(SHOWN).is_some() {
        text.push('…');
    }
    text
}
