//! Public texts that have a name: what they are, where to download them, and how to verify them.
//!
//! A named text is stored in a cache folder that the caller provides. This module looks there and verifies the
//! file; it downloads nothing.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::files::{open_file, sha256_of_reader};

/// Name of the built-in story, which is also used when there is no input.
pub const BUILTIN: &str = "builtin";

/// A public text that can be requested by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedText {
    /// The name that the user types.
    pub name: &'static str,
    /// File name in the cache folder.
    pub file_name: &'static str,
    /// URL of the file.
    pub address: &'static str,
    /// SHA-256 of the file in lower-case hexadecimal.
    pub sha256: &'static str,
    /// Size of the file in bytes.
    pub file_bytes: u64,
    /// One line that describes the text.
    pub description: &'static str,
}

/// Every named text that has to be downloaded.
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
    /// No text has the requested name.
    #[error("`{name}` is not the name of a text; known names: {}", known_names())]
    Unknown {
        /// The name that the caller asked for.
        name: String,
    },
    /// The cache folder does not contain the text.
    #[error(
        "{}: expected the text `{}` here, found no file; put {} ({} bytes) there by hand, from {}",
        path.display(), text.name, text.file_name, text.file_bytes, text.address
    )]
    Missing {
        /// The path at which the file was expected.
        path: PathBuf,
        /// The text that the caller asked for.
        text: &'static NamedText,
    },
    /// The cache folder contains another file under the text's file name.
    #[error(
        "{}: this is not the text `{}`: expected {} bytes with SHA-256 {}, found {found}; \
         delete this file, then fetch it again from {}",
        path.display(), text.name, text.file_bytes, text.sha256, text.address
    )]
    WrongChecksum {
        /// Path of that file.
        path: PathBuf,
        /// The text that the caller asked for.
        text: &'static NamedText,
        /// The size or checksum that was found.
        found: String,
    },
    /// The file exists but cannot be read.
    #[error("{}: cannot be read: {reason}; check that this account may read it", path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// The error that the system returned.
        reason: io::Error,
    },
}

/// Finds a text by name. Returns `None` for [`BUILTIN`], which has no file, and for unknown names.
pub fn find(name: &str) -> Option<&'static NamedText> {
    NAMED_TEXTS.iter().find(|text| text.name == name)
}

/// All names for use in messages, [`BUILTIN`] first: `builtin, the-verdict`.
pub fn known_names() -> String {
    let mut names = vec![BUILTIN];
    names.extend(NAMED_TEXTS.iter().map(|text| text.name));
    names.join(", ")
}

/// Path of the text `name` in `cache_dir`, after its size and SHA-256 have been verified.
///
/// # Errors
///
/// Returns an error for an unknown name, and for a file that is missing, unreadable or not the text.
pub fn locate(name: &str, cache_dir: &Path) -> Result<PathBuf, NameError> {
    let text = find(name).ok_or_else(|| NameError::Unknown { name: name.to_owned() })?;
    check(text, cache_dir)
}

/// As [`locate`], for a text that has already been found by name.
///
/// # Errors
///
/// Returns an error if the file is missing, unreadable or not the text.
pub fn check(text: &'static NamedText, cache_dir: &Path) -> Result<PathBuf, NameError> {
    let path = cache_dir.join(text.file_name);
    let meta = match fs::metadata(&path) {
        Ok(meta) => meta,
        Err(reason) if reason.kind() == io::ErrorKind::NotFound => {
            return Err(NameError::Missing { path, text });
        }
        Err(reason) => return Err(NameError::Unreadable { path, reason }),
    };
    // Compare the size first: it costs nothing, and no file longer than the text is read.
    let found = if !meta.is_file() {
        "something that is not a file".to_owned()
    } else if meta.len() != text.file_bytes {
        format!("{} bytes", meta.len())
    } else {
        let file = open_file(&path).map_err(|error| error.source).map(|file| file.take(text.file_bytes));
        match file.and_then(|file| sha256_of_reader(file, &mut |_| {})) {
            Ok(sha256) if sha256 == text.sha256 => return Ok(path),
            Ok(sha256) => format!("SHA-256 {sha256}"),
            Err(reason) => return Err(NameError::Unreadable { path, reason }),
        }
    };
    Err(NameError::WrongChecksum { path, text, found })
}
