//! Errors of reading a corpus.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::names::{self, NameError};

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
    /// A folder without .txt or .md files.
    #[error(
        "{}: expected .txt or .md files in this folder, found none; name the files themselves if \
         theirs is another ending",
        path.display()
    )]
    EmptyFolder {
        /// Path of the folder.
        path: PathBuf,
    },
    /// A glob that matches no file.
    #[error(
        "{pattern}: expected files that match this pattern, found none; check it, or name a \
         folder to take every .txt and .md file below it"
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
    /// A file that is not UTF-8.
    #[error("{}: expected UTF-8, found {found}", path.display())]
    NotUtf8 {
        /// Path of the file.
        path: PathBuf,
        /// What was found, where, and how to convert it.
        found: IllFormed,
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

/// Where and how a file is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IllFormed {
    /// The file begins with a byte order mark of UTF-16 or UTF-32.
    ByteOrderMark {
        /// The encoding of that mark.
        encoding: &'static str,
    },
    /// The file begins like a file of another format.
    Format {
        /// Name of that format, with an article.
        name: &'static str,
        /// How to turn it into text.
        remedy: &'static str,
    },
    /// A byte that is invalid at its position.
    Byte {
        /// The invalid byte's value.
        byte: u8,
        /// Byte offset from 0.
        at: usize,
        /// Line number from 1.
        line: usize,
    },
    /// The file ends inside a multi-byte character.
    CutOff {
        /// Byte offset at which that character begins, from 0.
        at: usize,
    },
}

impl fmt::Display for IllFormed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByteOrderMark { encoding } => write!(
                f,
                "the byte order mark of {encoding} at its start; convert the file: \
                 iconv -f {encoding} -t UTF-8 FILE > NEW_FILE"
            ),
            Self::Format { name, remedy } => write!(f, "the beginning of {name}; {remedy}"),
            Self::Byte { byte, at, line } => write!(
                f,
                "byte 0x{byte:02X} at byte {at} (line {line}); convert the file from its encoding, \
                 for example: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW_FILE"
            ),
            Self::CutOff { at } => write!(
                f,
                "an end inside the character that begins at byte {at}; the file seems cut off: \
                 fetch it again, or remove its last bytes"
            ),
        }
    }
}
