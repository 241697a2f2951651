//! Why a text cannot be prepared.

use std::path::PathBuf;

use super::super::documents::DocumentError;
use super::super::manifest::ManifestError;
use super::options::OptionError;
use crate::files::FileError;
use crate::tokenizer::TokenizerError;

/// Why a preparation ended without its shards.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// A source that cannot be read.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A manifest that cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// An option that a preparation cannot have.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// A folder with something else in it.
    #[error("{}: expected an empty folder, or one of a stopped preparation, found {found}; choose another folder", .path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// What is in it.
        found: String,
    },
    /// The system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// A text that the tokenizer refuses.
    #[error("{}: {source}", .path.display())]
    Tokenizer {
        /// The file that the text came from.
        path: PathBuf,
        /// Why.
        source: TokenizerError,
    },
    /// Lines or rows, and none of them a document.
    #[error(
        "no line or row is a document, {n_bad} were looked at; the first, {first}; name the field by --field, the column by --column"
    )]
    AllBad {
        /// Lines and rows that are none.
        n_bad: u64,
        /// The first of them.
        first: String,
    },
    /// No text in any file.
    #[error("no text in {n_files} files: all are empty, or nothing but white space; give files with text")]
    NoText {
        /// Files that were read.
        n_files: usize,
    },
    /// What a stopped preparation left is not as its state says.
    #[error("{}: expected {expected}, found {found}; remove the folder and prepare the text again", .path.display())]
    Left {
        /// The file.
        path: PathBuf,
        /// What its state says.
        expected: String,
        /// What is there.
        found: String,
    },
}
