//! The download of a named text into the cache folder.
//!
//! A file has its own name in the cache folder only once its SHA-256 has been checked and its bytes are on the disk; until
//! then it has a temporary name there, and is removed on failure.

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
    /// The transfer failed, or what came is not the text.
    #[error(
        "cannot download {} from {address}: {failure}; put {} ({} bytes, SHA-256 {}) at {} by hand",
        text.name, text.file_name, text.file_bytes, text.sha256, path.display()
    )]
    Failed {
        /// The text asked for.
        text: &'static NamedText,
        /// Where it was asked for.
        address: String,
        /// Where the file belongs.
        path: PathBuf,
        /// What went wrong.
        failure: Failure,
    },
    /// The cache folder cannot be made or written to.
    #[error(
        "{}: cannot be written: {reason}; make room or set CALAME_CACHE to another folder",
        path.display()
    )]
    Write {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// No variable says where the cache folder is.
    #[error("no home folder is known to keep texts in; set CALAME_CACHE to a folder")]
    NoHome,
    /// An input that is no input, or a file in the cache folder that is not the text.
    #[error(transparent)]
    Input(#[from] CorpusError),
}

impl From<FileError> for DownloadError {
    fn from(FileError { path, source, .. }: FileError) -> DownloadError {
        DownloadError::Write { path, reason: source }
    }
}

/// The folder in which named texts are kept: `$CALAME_CACHE`, else `$XDG_CACHE_HOME/calame`, else
/// `~/.cache/calame`; it need not exist.
///
/// # Errors
///
/// None of the three is known.
pub fn cache_dir() -> Result<PathBuf, DownloadError> {
    cache_dir_from(|name| std::env::var_os(name), std::env::home_dir())
}

/// As [`cache_dir`], from variables and a home folder that are handed in.
fn cache_dir_from(
    variable: impl Fn(&str) -> Option<OsString>,
    home: Option<PathBuf>,
) -> Result<PathBuf, DownloadError> {
    let folder = |name| variable(name).map(PathBuf::from).filter(|p| !p.as_os_str().is_empty());
    if let Some(cache) = folder("CALAME_CACHE") {
        return Ok(cache);
    }
    // The XDG base directory specification has relative paths ignored.
    if let Some(cache) = folder("XDG_CACHE_HOME").filter(|path| path.is_absolute()) {
        return Ok(cache.join("calame"));
    }
    home.filter(|home| !home.as_os_str().is_empty())
        .map(|home| home.join(".cache").join("calame"))
        .ok_or(DownloadError::NoHome)
}

/// Downloads the named texts among `inputs` that `cache_dir` does not hold yet; `progress` gets the
/// text and the bytes received so far.
///
/// # Errors
///
/// An input that is no path, name or pattern; a file in the cache folder that is not the text it
/// should be; a download that fails.
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

/// Downloads `text` from `address` into `cache_dir` (made if missing) and gives the file's path;
/// `progress` gets the bytes received so far, of `text.file_bytes`.
///
/// # Errors
///
/// No network, a server that has no such file or sends another one, a folder that cannot be
/// written. What stood in the folder before stands there still, and nothing new does.
pub fn download(
    agent: &Agent,
    text: &'static NamedText,
    address: &str,
    cache_dir: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<PathBuf, DownloadError> {
    let path = cache_dir.join(text.file_name);
    create_parent_folder(&path)?;
    // The file is created first: a folder that cannot be written to needs no network to say so.
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
