//! SHA-256 and CRC-32 of files and of data in memory.

use std::io::{self, Read};
use std::path::Path;

use sha2::Digest;

use super::FileError;
use super::open::open_file;

/// Bytes read at a time: large enough that system calls cost little next to hashing.
const PIECE_BYTES: usize = 1 << 20;

/// A SHA-256 digest under construction, for data that arrives in pieces.
#[derive(Clone, Debug, Default)]
pub struct Sha256(sha2::Sha256);

impl Sha256 {
    /// The digest of no data.
    pub fn new() -> Sha256 {
        Sha256::default()
    }

    /// Appends `bytes` to the hashed data.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all data, as 64 lower-case hexadecimal digits.
    pub fn finish(self) -> String {
        self.finish_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The digest of all data.
    pub fn finish_bytes(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// SHA-256 of `bytes`, as 64 lower-case hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(bytes);
    hasher.finish()
}

/// SHA-256 of a whole file, as 64 lower-case hexadecimal digits; `progress` receives the size of each piece read.
///
/// # Errors
/// If the file cannot be opened or read.
pub fn sha256_of_file(path: &Path, progress: &mut dyn FnMut(u64)) -> Result<String, FileError> {
    let file = open_file(path)?;
    sha256_of_reader(file, progress).map_err(FileError::new("read", path))
}

/// SHA-256 of everything up to the end of `reader`; `progress` receives the size of each piece read.
///
/// # Errors
/// The reader's error.
pub fn sha256_of_reader(reader: impl Read, progress: &mut dyn FnMut(u64)) -> io::Result<String> {
    let mut hasher = Sha256::new();
    for_each_piece(reader, |piece| {
        hasher.update(piece);
        progress(piece.len() as u64);
    })?;
    Ok(hasher.finish())
}

/// The size in bytes and the CRC-32 (IEEE 802.3, as in zip and PNG) of a whole file.
///
/// # Errors
/// If the file cannot be opened or read.
pub fn crc32_of_file(path: &Path) -> Result<(u64, u32), FileError> {
    let file = open_file(path)?;
    let (mut crc, mut file_bytes) = (Crc32::new(), 0);
    let piece = |piece: &[u8]| {
        crc.update(piece);
        file_bytes += piece.len() as u64;
    };
    for_each_piece(file, piece).map_err(FileError::new("read", path))?;
    Ok((file_bytes, crc.finish()))
}

/// A CRC-32 (IEEE 802.3) under construction, for data that arrives in pieces.
#[derive(Clone, Debug, Default)]
pub struct Crc32(crc32fast::Hasher);

impl Crc32 {
    /// The checksum of no data.
    pub fn new() -> Crc32 {
        Crc32::default()
    }

    /// Appends `bytes` to the checked data.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all data.
    pub fn finish(self) -> u32 {
        self.0.finalize()
    }
}

fn for_each_piece(mut reader: impl Read, mut visit: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => visit(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-2, appendix B.1, and the empty text.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digests_are_the_published_ones() {
        assert_eq!((sha256_hex(b"abc").as_str(), sha256_hex(b"").as_str()), (ABC, EMPTY));
        let mut hasher = Sha256::new();
        [b"a", b"b", b"c"].iter().for_each(|byte| hasher.update(*byte));
        assert_eq!(hasher.finish(), ABC);
        // The check value of CRC-32 in the catalogue of parametrised CRC algorithms.
        let mut crc = Crc32::new();
        [&b"1234"[..], b"", b"56789"].iter().for_each(|piece| crc.update(piece));
        assert_eq!(crc.finish(), 0xcbf4_3926);
    }

    #[test]
    fn a_file_has_the_digest_of_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for n_bytes in [0, 9, PIECE_BYTES, 2 * PIECE_BYTES + 1] {
            let bytes: Vec<u8> = (0..n_bytes).map(|i| (i * 7 + i / 300) as u8).collect();
            std::fs::write(&path, &bytes).unwrap();
            let mut n_read = 0;
            assert_eq!(sha256_of_file(&path, &mut |n| n_read += n).unwrap(), sha256_hex(&bytes));
            assert_eq!(n_read, n_bytes as u64);
            let mut crc = Crc32::new();
            crc.update(&bytes);
            assert_eq!(crc32_of_file(&path).unwrap(), (n_bytes as u64, crc.finish()));
        }
        let missing = folder.path().join("missing");
        assert!(sha256_of_file(&missing, &mut |_| {}).unwrap_err().to_string().contains("cannot open"));
        assert_eq!(crc32_of_file(&missing).unwrap_err().path, missing);
    }

    #[test]
    fn interrupted_reads_are_repeated() {
        struct Interrupted(u8);
        impl Read for Interrupted {
            fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                match self.0 {
                    1 | 3 => Err(io::ErrorKind::Interrupted.into()),
                    2 => Ok(io::copy(&mut &b"abc"[..], &mut &mut out[..])? as usize),
                    _ => Ok(0),
                }
            }
        }
        assert_eq!(sha256_of_reader(Interrupted(0), &mut |_| {}).unwrap(), ABC);
    }
}
