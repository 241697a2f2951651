//! Files whose bytes are read by position, by several threads at once.

use std::fs::File;
use std::io;
use std::path::Path;

/// An open file without a place of its own: whoever reads says where.
#[derive(Debug)]
pub(super) struct ByPosition {
    file: File,
    n_bytes: u64,
}

impl ByPosition {
    pub fn open(path: &Path) -> io::Result<ByPosition> {
        ByPosition::of(File::open(path)?)
    }

    pub fn of(file: File) -> io::Result<ByPosition> {
        let n_bytes = file.metadata()?.len();
        Ok(ByPosition { file, n_bytes })
    }

    /// The file's size when it was opened.
    pub fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// Reads over all of `bytes` from `at` on.
    #[cfg(unix)]
    pub fn read_exact(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, bytes, at)
    }

    /// Reads over all of `bytes` from `at` on.
    #[cfg(windows)]
    pub fn read_exact(&self, mut at: u64, mut bytes: &mut [u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(&self.file, bytes, at)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => (at, bytes) = (at + n as u64, &mut bytes[n..]),
            }
        }
        Ok(())
    }
}
