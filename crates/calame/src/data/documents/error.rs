//! Errors of reading documents.

use std::io;
use std::path::{Path, PathBuf};

use super::super::corpus_error::CorpusError;
use super::super::ill_formed::IllFormed;
use super::structure::Format;

/// Why a file cannot be read as documents.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// An input that matches no files.
    #[error(transparent)]
    Input(#[from] CorpusError),
    /// The system refused to read a file, or a compressed file is damaged or truncated.
    #[error("{}: cannot be read: {reason}{}", .path.display(), remedy(.path, .reason))]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// The error of the system or the decompressor.
        reason: io::Error,
    },
    /// A text file that is not UTF-8.
    #[error("{}: expected UTF-8, found {found}", .path.display())]
    NotUtf8 {
        /// Path of the file.
        path: PathBuf,
        /// What was found, where, and how to convert it.
        found: IllFormed,
    },
    /// Structured data that is neither text nor lines of JSON.
    #[error("{}: expected text or lines of JSON, found {}; {}; or read it as plain text, as it is, with --read-as text (data.read_as)", .path.display(), .found.name(), .found.remedy())]
    Structured {
        /// Path of the file.
        path: PathBuf,
        /// What its beginning shows.
        found: Format,
    },
    /// A file that cannot be read as Parquet.
    #[error("{}: cannot be read as a Parquet file: {reason}", .path.display())]
    Parquet {
        /// Path of the file.
        path: PathBuf,
        /// The reader's error message.
        reason: String,
    },
    /// A Parquet file without a text column of the requested name.
    #[error("{}: expected a column of text named {column:?}, found {found}; name the column by --column", .path.display())]
    NoColumn {
        /// Path of the file.
        path: PathBuf,
        /// Name of the requested column.
        column: String,
        /// The text columns of the file, or the type of the requested column.
        found: String,
    },
}

impl DocumentError {
    pub(super) fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> DocumentError {
        let path = path.to_owned();
        move |reason| DocumentError::Unreadable { path, reason }
    }
}

fn remedy(path: &Path, reason: &io::Error) -> &'static str {
    use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    let is_compressed =
        path.extension().is_some_and(|ending| ["gz", "zst"].iter().any(|end| ending.eq_ignore_ascii_case(end)));
    match reason.kind() {
        UnexpectedEof | InvalidData | InvalidInput | Other if is_compressed => {
            "; the compressed file is damaged or cut off: fetch it again"
        }
        _ => "; check that it is there and that this account may read it",
    }
}
