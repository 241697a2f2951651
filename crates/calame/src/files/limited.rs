//! Reading a whole file whose size is bounded before memory is allocated for it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::FileError;
use super::open::open_file;

/// All bytes of a file of at most `limit` bytes.
///
/// # Errors
/// If the file cannot be read, is no regular file, or is longer; the reason is of kind [`FileTooLarge`](io::ErrorKind::FileTooLarge) then.
pub fn read_at_most(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let file = open_file(path).map_err(|error| FileError { action: "read", ..error })?;
    read(file, limit).map_err(FileError::new("read", path))
}

/// The text of a file of at most `limit` bytes.
///
/// # Errors
/// As [`read_at_most`]; or if the file is not UTF-8, the reason is of kind [`InvalidData`](io::ErrorKind::InvalidData) then.
pub fn read_text_at_most(path: &Path, limit: u64) -> Result<String, FileError> {
    let not_utf8 = |error: std::string::FromUtf8Error| {
        let reason = format!("byte {} is not UTF-8", error.utf8_error().valid_up_to());
        FileError::new("read", path)(io::Error::new(io::ErrorKind::InvalidData, reason))
    };
    String::from_utf8(read_at_most(path, limit)?).map_err(not_utf8)
}

fn read(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let too_large = |n_bytes: u64| {
        let reason = format!("{n_bytes} bytes, expected at most {limit}");
        Err(io::Error::new(io::ErrorKind::FileTooLarge, reason))
    };
    let n_bytes = file.metadata()?.len();
    if n_bytes > limit {
        return too_large(n_bytes);
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(n_bytes as usize).map_err(|error| io::Error::new(io::ErrorKind::OutOfMemory, error))?;
    // The file may have grown, and those of /proc report a length of 0.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return too_large(bytes.len() as u64);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "caf\u{e9}").unwrap();
        assert_eq!(read_at_most(&path, 5).unwrap(), "café".as_bytes());
        assert_eq!(read_text_at_most(&path, u64::MAX).unwrap(), "café");
        let error = read_at_most(&path, 4).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::FileTooLarge);
        assert!(error.to_string().contains("cannot read") && error.to_string().contains("5 bytes"), "{error}");
        std::fs::write(&path, b"ab\xff").unwrap();
        let error = read_text_at_most(&path, 9).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("byte 2 is not UTF-8"), "{error}");
    }

    /// A device that never ends reports a length of 0.
    #[cfg(unix)]
    #[test]
    fn an_endless_device_is_not_read() {
        let error = read_at_most(Path::new("/dev/zero"), 100).unwrap_err().to_string();
        assert!(error.contains("it is a device, expected a regular file"), "{error}");
        // A regular file whose length is reported as 0 too.
        if Path::new("/proc/self/status").exists() {
            let error = read_at_most(Path::new("/proc/self/status"), 10).unwrap_err();
            assert_eq!(error.source.kind(), io::ErrorKind::FileTooLarge);
        }
    }
}
