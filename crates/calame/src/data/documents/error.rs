//! Why files give no documents.

use std::io;
use std::path::{Path, PathBuf};

use super::super::corpus_error::{CorpusError, IllFormed};
use super::super::names::BUILTIN;

/// Why a file cannot be read as documents.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// An input that gives no files.
    #[error(transparent)]
    Input(#[from] CorpusError),
    /// The story inside the program, which is no file.
    #[error(
        "{BUILTIN}: expected files, found the name of the story inside the program; calame train takes it as it is"
    )]
    Builtin,
    /// A file whose ending says nothing of how to read it.
    #[error("{}: expected a file that ends in .txt, .md, .jsonl or .parquet (the first three also with .gz or .zst after it); give it its true ending", .path.display())]
    UnknownKind {
        /// The file.
        path: PathBuf,
    },
    /// A folder without a file of a known kind.
    #[error("{}: expected .txt, .md, .jsonl or .parquet files in this folder, found none; name the files themselves, by their true endings", .path.display())]
    EmptyFolder {
        /// The folder.
        path: PathBuf,
    },
    /// The system refused, or a compressed file is damaged or cut off.
    #[error("{}: cannot be read: {reason}{}", .path.display(), remedy(.path, .reason))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system or the decompressor said.
        reason: io::Error,
    },
    /// Text that is no UTF-8.
    #[error("{}: expected UTF-8, found {found}", .path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// What was found, where, and how to convert it.
        found: IllFormed,
    },
    /// A Parquet file that cannot be read as one.
    #[error("{}: cannot be read as a Parquet file: {reason}; if other programs read it, write it again with snappy, gzip or lz4, or no compression", .path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        reason: String,
    },
    /// A Parquet file without a column of text of that name.
    #[error("{}: expected a column of text named {column:?}, found {found}; name the column by --column", .path.display())]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// The column asked for.
        column: String,
        /// The columns of text there are, or what the column is instead.
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
