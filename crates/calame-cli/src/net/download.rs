//! Downloads named texts into the cache folder.
//!
//! A file gets its final name only after its SHA-256 has been checked and its bytes are synced to disk. Until then it
//! has a temporary name in the same folder; after a failure it is removed.

mod transfer;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use calame::data::corpus::named_inputs;
use calame::data::{CorpusError, NameError, NamedText, names};
use calame::files::{FileError, create_parent_folder, replace_shared_file};
use ureq::Agent;

pub use self::transfer::{Failure, agent};

/// Why a named text is not in the cache folder.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The transfer failed, or the file received is not the text.
    #[error(
        "cannot download {} from {address}: {failure}; put {} ({} bytes, SHA-256 {}) at {} by hand",
        text.name, text.file_name, text.file_bytes, text.sha256, path.display()
    )]
    Failed {
        /// The text to download.
        text: &'static NamedText,
        /// The URL it was requested from.
        address: String,
        /// The path in the cache folder at which the file is expected.
        path: PathBuf,
        /// The reason, shown in the message.
        failure: Failure,
    },
    /// The cache folder cannot be made or written to.
    #[error(
        "{}: cannot be written: {reason}; free some space, or set CALAME_CACHE to another folder",
        path.display()
    )]
    Write {
        /// The folder, or the file in it.
        path: PathBuf,
        /// The error of the operating system.
        reason: io::Error,
    },
    /// No environment variable gives the cache folder.
    #[error("there is no home folder for the cache of texts; set CALAME_CACHE to a folder")]
    NoHome,
    /// An input is not valid, or a file in the cache folder is not the text.
    #[error(transparent)]
    Input(#[from] CorpusError),
}

impl From<FileError> for DownloadError {
    fn from(FileError { path, source, .. }: FileError) -> DownloadError {
        DownloadError::Write { path, reason: source }
    }
}

/// The cache folder of named texts: `$CALAME_CACHE`, else `$XDG_CACHE_HOME/calame`, else `~/.cache/calame`. It need not
/// exist.
///
/// # Errors
/// If none of the three is known.
pub fn cache_dir() -> Result<PathBuf, DownloadError> {
    cache_dir_from(|name| std::env::var_os(name), std::env::home_dir())
}

/// Like [`cache_dir`], with the variables and the home folder given.
fn cache_dir_from(
    variable: impl Fn(&str) -> Option<OsString>,
    home: Option<PathBuf>,
) -> Result<PathBuf, DownloadError> {
    let folder = |name| variable(name).map(PathBuf::from).filter(|p| !p.as_os_str().is_empty());
    if let Some(cache) = folder("CALAME_CACHE") {
        return Ok(cache);
    }
    // The XDG base directory specification says that relative paths are ignored.
    if let Some(cache) = folder("XDG_CACHE_HOME").filter(|path| path.is_absolute()) {
        return Ok(cache.join("calame"));
    }
    home.filter(|home| !home.as_os_str().is_empty())
        .map(|home| home.join(".cache").join("calame"))
        .ok_or(DownloadError::NoHome)
}

/// Downloads the named texts among `inputs` that `cache_dir` lacks. Calls `progress` with the text and the bytes
/// received so far.
///
/// # Errors
/// If an input is neither a path, a name nor a pattern, a file in the cache folder is not the text of its name, or a
/// download fails.
pub fn fetch_missing<S: AsRef<str>>(
    agent: &Agent,
    inputs: &[S],
    cache_dir: &Path,
    progress: &mut dyn FnMut(&NamedText, u64),
) -> Result<(), DownloadError> {
    for text in named_inputs(inputs)? {
        match names::check(text, cache_dir) {
            Ok(_) => {}
            Err(NameError::Missing { .. }) => {
                download(agent, text, text.address, cache_dir, &mut |n| {
                    progress(text, n);
                })?;
            }
            Err(error) => return Err(CorpusError::from(error).into()),
        }
    }
    Ok(())
}

/// Downloads `text` from `address` into `cache_dir`, which is created if missing, and returns the path of the file.
/// Calls `progress` with the bytes received so far, of `text.file_bytes`.
///
/// # Errors
/// If there is no network, the server lacks the file or sends a different one, or the folder cannot be written. The
/// files of the folder are then unchanged.
pub fn download(
    agent: &Agent,
    text: &'static NamedText,
    address: &str,
    cache_dir: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<PathBuf, DownloadError> {
    let path = cache_dir.join(text.file_name);
    create_parent_folder(&path)?;
    // The file is created first, so that a folder that cannot be written is reported before any transfer.
    replace_shared_file(&path, |file| {
        let sink = &mut |bytes: &[u8]| file.write_all(bytes).map_err(FileError::new("write", &path));
        let received = transfer::receive(agent, text, address, sink, progress)?;
        received.map_err(|failure| {
            let (address, path) = (address.to_owned(), path.clone());
            DownloadError::Failed { text, address, path, failure }
        })
    })?;
    Ok(path)
}

#[cfg(test)]
mod tests;
