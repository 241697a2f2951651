//! Errors of reading documents.

use std::io;
use std::path::{Path, PathBuf};

use super::super::corpus_error::{CorpusError, IllFormed};
use super::super::names::BUILTIN;

/// Why a file cannot be read as documents.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// An input that matches no files.
    #[error(transparent)]
    Input(#[from] CorpusError),
    /// The built-in story, which is not a file.
    #[error(
        "{BUILTIN}: expected files, found the name of the story inside the program; calame train takes it as it is"
    )]
    Builtin,
    /// A file whose extension does not say how to read it.
    #[error("{}: expected a file that ends in .txt, .md, .jsonl or .parquet (the first three also with .gz or .zst after it); give it its true ending", .path.display())]
    UnknownKind {
        /// Path of the file.
        path: PathBuf,
    },
    /// A folder that contains no file of a known kind.
    #[error("{}: expected .txt, .md, .jsonl or .parquet files in this folder, found none; name the files themselves, by their true endings", .path.display())]
    EmptyFolder {
        /// Path of the folder.
        path: PathBuf,
    },
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
    /// A file that cannot be read as Parquet.
    #[error("{}: cannot be read as a Parquet file: {reason}; if other programs read it, write it again with snappy, gzip or lz4, or no compression", .path.display())]
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
