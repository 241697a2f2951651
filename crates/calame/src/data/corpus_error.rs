//! Why files give no text.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::names::{self, NameError};

/// The longest text, in bytes: it is held in memory as a whole, and its tokens after it.
pub const MAX_BYTES: u64 = 4 << 30;

/// Why an input could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// Nothing of that name.
    #[error(
        "{input}: no such file or folder, and not the name of a text; check the path, or use a \
         known name: {}",
        names::known_names()
    )]
    Missing {
        /// The input as it was given.
        input: String,
    },
    /// A folder without a text.
    #[error(
        "{}: expected .txt or .md files in this folder, found none; name the files themselves if \
         theirs is another ending",
        path.display()
    )]
    EmptyFolder {
        /// The folder.
        path: PathBuf,
    },
    /// A glob that no file answers to.
    #[error(
        "{pattern}: expected files that match this pattern, found none; check it, or name a \
         folder to take every .txt and .md file below it"
    )]
    NoMatch {
        /// The pattern.
        pattern: String,
    },
    /// A glob that cannot be understood.
    #[error(
        "{pattern}: expected a pattern, found {reason:?} at character {at}; a `[` that stands for \
         itself is written `[[]`"
    )]
    BadPattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: &'static str,
        /// Where, in characters from 0.
        at: usize,
    },
    /// A file of no bytes.
    #[error(
        "{}: expected text, found an empty file; give another one, or leave it out",
        path.display()
    )]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A file of white space.
    #[error(
        "{}: expected text, found only white space ({file_bytes} bytes); give another file, or \
         leave it out",
        path.display()
    )]
    OnlyWhitespace {
        /// The file.
        path: PathBuf,
        /// Its length.
        file_bytes: u64,
    },
    /// Bytes that are no UTF-8.
    #[error("{}: expected UTF-8, found {found}", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// What was found, where, and how to convert it.
        found: IllFormed,
    },
    /// Something that is neither a file nor a folder.
    #[error(
        "{}: expected a file or a folder, found a device, pipe or socket; write its text to a \
         file first",
        path.display()
    )]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// More text than is held in memory.
    #[error(
        "{}: expected at most {MAX_BYTES} bytes of text in all, found {n_bytes} with this file; \
         train on a part of it",
        path.display()
    )]
    TooLong {
        /// The file that went past the limit.
        path: PathBuf,
        /// Bytes up to it and with it.
        n_bytes: u64,
    },
    /// A file or folder that the system does not let be read.
    #[error("{}: cannot be read: {reason}; check that this account may read it", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// A named text that is not in the cache folder, or is not what it should be.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// Where and how a file's bytes are not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IllFormed {
    /// It begins with a byte order mark of UTF-16 or UTF-32.
    ByteOrderMark {
        /// The encoding that the mark stands for.
        encoding: &'static str,
    },
    /// It begins as a file of another format does.
    Format {
        /// What it is.
        name: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A byte that cannot stand where it does.
    Byte {
        /// The byte.
        byte: u8,
        /// Its place, in bytes from 0.
        at: usize,
        /// Its line, from 1.
        line: usize,
    },
    /// The file ends in the middle of a character.
    CutOff {
        /// Where that character begins, in bytes from 0.
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
