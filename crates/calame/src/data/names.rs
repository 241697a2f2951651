//! Texts that are known by a name: what they are, where they come from, and how to be sure of them.
//!
//! A named text lies in a cache folder that the caller gives. This module looks there and checks
//! what it finds; it fetches nothing.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::files::sha256_of_reader;

/// The name of the story inside the library, which is also what no input means.
pub const BUILTIN: &str = "builtin";

/// A public text that can be asked for by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedText {
    /// What the user types.
    pub name: &'static str,
    /// What the file is called in the cache folder.
    pub file_name: &'static str,
    /// Where the file can be had.
    pub address: &'static str,
    /// SHA-256 of the file, in lower-case hexadecimal digits.
    pub sha256: &'static str,
    /// Length of the file in bytes.
    pub file_bytes: u64,
    /// One line on what it is.
    pub description: &'static str,
}

/// Every text that has a name and must be fetched.
pub const NAMED_TEXTS: &[NamedText] = &[NamedText {
    name: "the-verdict",
    file_name: "the-verdict.txt",
    address: "https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/main/ch02/01_main-chapter-code/the-verdict.txt",
    sha256: "b41e41a68f0398a3154ae69e2e4c0e2694e17fe0d66730536837f1b01935b31f",
    file_bytes: 20_479,
    description: "Edith Wharton, \"The Verdict\" (1908), public domain; the text of the report",
}];

/// Why a named text could not be used.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// No text has this name.
    #[error("`{name}` is not the name of a text; known names: {}", known_names())]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// The cache folder does not hold the text.
    #[error(
        "{}: expected the text `{}` here, found no file; put {} ({} bytes) there by hand, from {}",
        path.display(), text.name, text.file_name, text.file_bytes, text.address
    )]
    Missing {
        /// Where the file was expected.
        path: PathBuf,
        /// The text asked for.
        text: &'static NamedText,
    },
    /// The cache folder holds something else under the text's file name.
    #[error(
        "{}: this is not the text `{}`: expected {} bytes with SHA-256 {}, found {found}; \
         delete this file, then fetch it again from {}",
        path.display(), text.name, text.file_bytes, text.sha256, text.address
    )]
    WrongChecksum {
        /// The file.
        path: PathBuf,
        /// The text asked for.
        text: &'static NamedText,
        /// Length or checksum found.
        found: String,
    },
    /// The file is there but cannot be read.
    #[error("{}: cannot be read: {reason}; check that this account may read it", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
}

/// The text of that name; `None` for [`BUILTIN`], which has no file, and for a name that nothing
/// bears.
pub fn find(name: &str) -> Option<&'static NamedText> {
    NAMED_TEXTS.iter().find(|text| text.name == name)
}

/// All names, [`BUILTIN`] first, as they stand in messages: `builtin, the-verdict`.
pub fn known_names() -> String {
    let mut names = vec![BUILTIN];
    names.extend(NAMED_TEXTS.iter().map(|text| text.name));
    names.join(", ")
}

/// Path of the text called `name` inside `cache_dir`, once its length and SHA-256 have been
/// checked.
///
/// # Errors
///
/// An unknown name, a file that is missing, unreadable, or not the text.
pub fn locate(name: &str, cache_dir: &Path) -> Result<PathBuf, NameError> {
    let text = find(name).ok_or_else(|| NameError::Unknown { name: name.to_owned() })?;
    check(text, cache_dir)
}

/// As [`locate`], for a text that is at hand: its path inside `cache_dir` if the file is there and
/// is the text.
///
/// # Errors
///
/// A file that is missing, unreadable, or not the text.
pub fn check(text: &'static NamedText, cache_dir: &Path) -> Result<PathBuf, NameError> {
    let path = cache_dir.join(text.file_name);
    let meta = match fs::metadata(&path) {
        Ok(meta) => meta,
        Err(reason) if reason.kind() == io::ErrorKind::NotFound => {
            return Err(NameError::Missing { path, text });
        }
        Err(reason) => return Err(NameError::Unreadable { path, reason }),
    };
    // The length first: it is free, and no file longer than the text is ever read.
    let found = if !meta.is_file() {
        "something that is not a file".to_owned()
    } else if meta.len() != text.file_bytes {
        format!("{} bytes", meta.len())
    } else {
        let file = File::open(&path).map(|file| file.take(text.file_bytes));
        match file.and_then(|file| sha256_of_reader(file, &mut |_| {})) {
            Ok(sha256) if sha256 == text.sha256 => return Ok(path),
            Ok(sha256) => format!("SHA-256 {sha256}"),
            Err(reason) => return Err(NameError::Unreadable { path, reason }),
        }
    };
    Err(NameError::WrongChecksum { path, text, found })
}
