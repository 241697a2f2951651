//! Errors of reading a corpus.

use std::io;
use std::path::PathBuf;

use super::names::{self, NameError};
use super::skipped::SkippedFiles;

/// Maximum length of a text in bytes. The whole text is in memory, then its tokens.
pub const MAX_BYTES: u64 = 4 << 30;

/// Why an input could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// No file, folder or named text with this name exists.
    #[error(
        "{input}: no such file or folder, and not the name of a text; check the path, or use a \
         known name: {}",
        names::known_names()
    )]
    Missing {
        /// The input as it was given.
        input: String,
    },
    /// A folder or pattern with files, none of which can be used.
    #[error("{input}: expected files with text, found none: {skipped}; check the path, or name the files themselves")]
    NothingUsable {
        /// The folder or pattern as it was given.
        input: String,
        /// How many files were not used, and why.
        skipped: SkippedFiles,
    },
    /// A folder without files of a known ending.
    #[error(
        "{}: expected files ending in .txt, .md, .jsonl, .json or .parquet in this folder (the first four also with .gz or .zst after it), found none; \
         name the files themselves if theirs is another ending",
        path.display()
    )]
    EmptyFolder {
        /// Path of the folder.
        path: PathBuf,
    },
    /// A glob that matches no file.
    #[error(
        "{pattern}: expected files that match this pattern, found none; check it, or name a \
         folder to take every file of text below it"
    )]
    NoMatch {
        /// The pattern as it was given.
        pattern: String,
    },
    /// A glob with a syntax error.
    #[error(
        "{pattern}: expected a pattern, found {reason:?} at character {at}; a `[` that stands for \
         itself is written `[[]`"
    )]
    BadPattern {
        /// The pattern as it was given.
        pattern: String,
        /// What is wrong with the pattern.
        reason: &'static str,
        /// Position of the error, in characters from 0.
        at: usize,
    },
    /// A file of zero bytes.
    #[error(
        "{}: expected text, found an empty file; give another one, or leave it out",
        path.display()
    )]
    Empty {
        /// Path of the empty file.
        path: PathBuf,
    },
    /// A file that contains only white space.
    #[error(
        "{}: expected text, found only white space ({file_bytes} bytes); give another file, or \
         leave it out",
        path.display()
    )]
    OnlyWhitespace {
        /// Path of the file.
        path: PathBuf,
        /// Size of the file in bytes.
        file_bytes: u64,
    },
    /// An input that is neither a file nor a folder.
    #[error(
        "{}: expected a file or a folder, found a device, pipe or socket; write its text to a \
         file first",
        path.display()
    )]
    NotAFile {
        /// Path of the device, pipe or socket.
        path: PathBuf,
    },
    /// Lines or rows, none of which is a document.
    #[error(
        "none of the {n_bad} lines and rows is a document; the first, {first}; name the field by --field, the column by --column"
    )]
    AllBad {
        /// Number of lines and rows that are not documents.
        n_bad: u64,
        /// Location and reason of the first one.
        first: String,
    },
    /// Files without a document.
    #[error(
        "no text in {n_files} files: all are empty, or nothing but white space and separators; give files with text"
    )]
    NoText {
        /// Number of files that were read.
        n_files: usize,
    },
    /// More text than may be held in memory.
    #[error(
        "{}: expected at most {MAX_BYTES} bytes of text in total, found {n_bytes} with this file; \
         train on a part of it",
        path.display()
    )]
    TooLong {
        /// The file that exceeded the limit.
        path: PathBuf,
        /// Total bytes of text up to and including this file.
        n_bytes: u64,
    },
    /// A file or folder that the system refuses to read.
    #[error("{}: cannot be read: {reason}; check that this account may read it", path.display())]
    Unreadable {
        /// Path of the file or folder.
        path: PathBuf,
        /// The error that the system returned.
        reason: io::Error,
    },
    /// A named text that is missing from the cache folder or has other contents than expected.
    #[error(transparent)]
    Name(#[from] NameError),
}
