//! A file's bytes by position.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::error::TorchFileError;

/// An open file and its size.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    file: File,
    n_bytes: u64,
}

impl Source {
    pub fn open(path: &Path) -> Result<Source, TorchFileError> {
        let file = File::open(path).map_err(TorchFileError::io("open", path))?;
        let n_bytes = file.metadata().map_err(TorchFileError::io("read", path))?.len();
        Ok(Source { path: path.to_owned(), file, n_bytes })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    pub fn read_into(&mut self, at: u64, bytes: &mut [u8]) -> Result<(), TorchFileError> {
        self.file
            .seek(SeekFrom::Start(at))
            .and_then(|_| self.file.read_exact(bytes))
            .map_err(TorchFileError::io("read", &self.path))
    }

    /// Reads bytes that the caller has compared with the file's size.
    pub fn read(&mut self, at: u64, n_bytes: u64) -> Result<Vec<u8>, TorchFileError> {
        let mut bytes = vec![0; n_bytes as usize];
        self.read_into(at, &mut bytes)?;
        Ok(bytes)
    }

    /// At most `limit` bytes from the start.
    pub fn read_start(&mut self, limit: u64) -> Result<Vec<u8>, TorchFileError> {
        self.read(0, self.n_bytes.min(limit))
    }

    pub fn damaged(&self, part: impl Into<String>, reason: impl Into<String>) -> TorchFileError {
        TorchFileError::damaged(&self.path, part, reason)
    }
}
