//! Files that several threads read by position at the same time.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::FileError;
use super::open::open_file;

/// An open file without a cursor: each read names its position.
#[derive(Debug)]
pub struct PositionedFile {
    path: PathBuf,
    file: File,
    n_bytes: u64,
}

impl PositionedFile {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// If it cannot be opened, or is no regular file.
    pub fn open(path: &Path) -> Result<PositionedFile, FileError> {
        PositionedFile::of(open_file(path)?, path)
    }

    /// A file that is open already; `path` names it in errors.
    ///
    /// # Errors
    /// If its size cannot be read.
    pub fn of(file: File, path: &Path) -> Result<PositionedFile, FileError> {
        let n_bytes = file.metadata().map_err(FileError::new("read", path))?.len();
        Ok(PositionedFile { path: path.to_owned(), file, n_bytes })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's size when it was opened.
    pub fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// Overwrites all of `out` with the bytes from position `at` on; allocates nothing.
    ///
    /// # Errors
    /// If the file ends before `out` is full, or cannot be read.
    pub fn read_exact(&self, at: u64, out: &mut [u8]) -> Result<(), FileError> {
        read_exact_at(&self.file, at, out).map_err(|source| FileError::new("read", &self.path)(source))
    }

    /// Reads a tensor stored in blocks: fills `out`, in elements, from position `at` on, a piece at a time.
    ///
    /// `decode` overwrites a part of `out` with the values of its blocks; a block is `block_bytes` bytes in the file and
    /// `block_len` elements in `out`. At most [`PIECE_BYTES`](PositionedFile::PIECE_BYTES) are in memory at a time.
    ///
    /// # Errors
    /// As [`read_exact`](PositionedFile::read_exact).
    ///
    /// # Panics
    /// If `out` is not whole blocks.
    pub fn read_blocks<T>(
        &self,
        at: u64,
        (block_bytes, block_len): (usize, usize),
        out: &mut [T],
        mut decode: impl FnMut(&[u8], &mut [T]),
    ) -> Result<(), FileError> {
        assert_eq!(out.len() % block_len, 0, "read_blocks: {} elements in blocks of {block_len}", out.len());
        let n_blocks = (Self::PIECE_BYTES / block_bytes).clamp(1, (out.len() / block_len).max(1));
        let mut piece = vec![0; n_blocks * block_bytes];
        let mut at = at;
        for out in out.chunks_mut(n_blocks * block_len) {
            let piece = &mut piece[..out.len() / block_len * block_bytes];
            self.read_exact(at, piece)?;
            at += piece.len() as u64;
            decode(piece, out);
        }
        Ok(())
    }

    /// Bytes that [`read_blocks`](PositionedFile::read_blocks) holds in memory.
    pub const PIECE_BYTES: usize = 4 << 20;
}

#[cfg(unix)]
fn read_exact_at(file: &File, at: u64, out: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, at)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut at: u64, mut out: &mut [u8]) -> io::Result<()> {
    while !out.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, out, at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => (at, out) = (at + n as u64, &mut out[n..]),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> (tempfile::TempDir, PositionedFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, bytes).unwrap();
        (folder, PositionedFile::open(&path).unwrap())
    }

    #[test]
    fn threads_read_different_positions_at_the_same_time() {
        let bytes: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        let (_folder, file) = file(&bytes);
        assert_eq!(file.n_bytes(), 100_000);
        std::thread::scope(|scope| {
            for thread in 0..4usize {
                let (file, bytes) = (&file, &bytes);
                scope.spawn(move || {
                    let mut out = [0; 777];
                    for i in 0..200 {
                        let at = (i * 491 + thread * 13_007) % (bytes.len() - out.len());
                        file.read_exact(at as u64, &mut out).unwrap();
                        assert_eq!(out, bytes[at..at + out.len()]);
                    }
                });
            }
        });
    }

    #[test]
    fn an_end_before_the_last_byte_is_an_error() {
        let (_folder, file) = file(b"abc");
        file.read_exact(3, &mut []).unwrap();
        file.read_exact(0, &mut [0; 3]).unwrap();
        for (at, n) in [(0, 4), (3, 1), (1 << 40, 1)] {
            let error = file.read_exact(at, &mut vec![0; n]).unwrap_err();
            assert_eq!((error.action, error.source.kind()), ("read", io::ErrorKind::UnexpectedEof));
            assert_eq!(error.path, file.path());
        }
        assert_eq!(PositionedFile::open(&file.path().join("below")).unwrap_err().action, "open");
    }

    #[test]
    fn blocks_are_read_in_pieces() {
        // More than one piece, and a last one that is shorter.
        let n_blocks = PositionedFile::PIECE_BYTES / 3 + 5;
        let bytes: Vec<u8> = (0..2 + 3 * n_blocks).map(|i| (i % 255) as u8).collect();
        let (_folder, file) = file(&bytes);
        let mut out = vec![0u8; 2 * n_blocks];
        let mut n_pieces = 0;
        file.read_blocks(2, (3, 2), &mut out, |piece, out| {
            n_pieces += 1;
            for (from, to) in piece.chunks_exact(3).zip(out.chunks_exact_mut(2)) {
                to.copy_from_slice(&from[1..]);
            }
        })
        .unwrap();
        let expected: Vec<u8> = bytes[2..].chunks_exact(3).flat_map(|block| block[1..].to_vec()).collect();
        assert!(out == expected);
        assert_eq!(n_pieces, 2);
        file.read_blocks(2, (3, 2), &mut [0u8; 0], |_, _| panic!("nothing to decode")).unwrap();
    }
}
