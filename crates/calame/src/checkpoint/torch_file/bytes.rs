//! A file's bytes by position.

use std::path::{Path, PathBuf};

use super::error::TorchFileError;
use crate::checkpoint::by_position::ByPosition;

/// An open file and its size.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    file: ByPosition,
}

impl Source {
    pub fn open(path: &Path) -> Result<Source, TorchFileError> {
        let file = ByPosition::open(path).map_err(TorchFileError::io("open", path))?;
        Ok(Source { path: path.to_owned(), file })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn n_bytes(&self) -> u64 {
        self.file.n_bytes()
    }

    pub fn read_into(&self, at: u64, bytes: &mut [u8]) -> Result<(), TorchFileError> {
        self.file.read_exact(at, bytes).map_err(TorchFileError::io("read", &self.path))
    }

    /// Reads bytes that the caller has compared with the file's size.
    pub fn read(&self, at: u64, n_bytes: u64) -> Result<Vec<u8>, TorchFileError> {
        let mut bytes = vec![0; n_bytes as usize];
        self.read_into(at, &mut bytes)?;
        Ok(bytes)
    }

    /// At most `limit` bytes from the start.
    pub fn read_start(&self, limit: u64) -> Result<Vec<u8>, TorchFileError> {
        self.read(0, self.n_bytes().min(limit))
    }

    pub fn damaged(&self, part: impl Into<String>, reason: impl Into<String>) -> TorchFileError {
        TorchFileError::damaged(&self.path, part, reason)
    }
}
