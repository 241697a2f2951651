//! Errors of preparing a text.

use std::path::PathBuf;

use super::super::documents::DocumentError;
use super::super::manifest::ManifestError;
use super::options::OptionError;
use crate::files::{FileError, LockError};
use crate::tokenizer::TokenizerError;

/// Why a preparation failed.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// A source that cannot be read.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A manifest that cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// An option with an invalid value.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The folder contains something else.
    #[error("{}: expected an empty folder, or one of a stopped preparation, found {found}; choose another folder", .path.display())]
    Occupied {
        /// Path of the folder.
        path: PathBuf,
        /// What the folder contains instead.
        found: String,
    },
    /// Another program is using the folder.
    #[error(transparent)]
    Lock(LockError),
    /// Reading or writing a file of the folder failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A text that the tokenizer cannot encode.
    #[error("{}: {source}", .path.display())]
    Tokenizer {
        /// The file that contains the text.
        path: PathBuf,
        /// The error that the tokenizer returned.
        source: TokenizerError,
    },
    /// The sources have lines or rows, but none is a document.
    #[error(
        "none of the {n_bad} lines and rows is a document; the first, {first}; name the field by --field, the column by --column"
    )]
    AllBad {
        /// Number of lines and rows that are not documents.
        n_bad: u64,
        /// Location and reason of the first one.
        first: String,
    },
    /// No file contains text.
    #[error("no text in {n_files} files: all are empty, or nothing but white space; give files with text")]
    NoText {
        /// Number of files that were read.
        n_files: usize,
    },
    /// The files of an interrupted preparation do not match its state.
    #[error("{}: expected {expected}, found {found}; remove the folder and prepare the text again", .path.display())]
    Left {
        /// The file that does not match.
        path: PathBuf,
        /// What the state says about it.
        expected: String,
        /// What was found instead.
        found: String,
    },
}

impl From<LockError> for PrepareError {
    fn from(error: LockError) -> PrepareError {
        match error {
            LockError::File(error) => PrepareError::File(error),
            held => PrepareError::Lock(held),
        }
    }
}
