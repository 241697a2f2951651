//! Reads a file by position, with errors of this format.

use std::path::Path;

use super::error::TorchFileError;
use crate::files::PositionedFile;

/// An open file with its size.
#[derive(Debug)]
pub(super) struct Source(PositionedFile);

impl Source {
    pub fn open(path: &Path) -> Result<Source, TorchFileError> {
        Ok(Source(PositionedFile::open(path)?))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn n_bytes(&self) -> u64 {
        self.0.n_bytes()
    }

    pub fn read_into(&self, at: u64, bytes: &mut [u8]) -> Result<(), TorchFileError> {
        Ok(self.0.read_exact(at, bytes)?)
    }

    /// Reads bytes whose number the caller has compared with the file's size.
    pub fn read(&self, at: u64, n_bytes: u64) -> Result<Vec<u8>, TorchFileError> {
        let mut bytes = vec![0; n_bytes as usize];
        self.read_into(at, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads at most `limit` bytes from the start.
    pub fn read_start(&self, limit: u64) -> Result<Vec<u8>, TorchFileError> {
        self.read(0, self.n_bytes().min(limit))
    }

    pub fn damaged(&self, part: impl Into<String>, reason: impl Into<String>) -> TorchFileError {
        TorchFileError::damaged(self.path(), part, reason)
    }
}
