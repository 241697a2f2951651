//! Opening files: for reading, and the few kinds of writing that are not a replacement.
//!
//! Only regular files are opened. A FIFO would block until some program writes to it, and a device may never end.

use std::fs::{self, File, FileType, OpenOptions};
use std::io;
use std::path::Path;

use super::FileError;

/// Opens a regular file for reading.
///
/// # Errors
/// If it cannot be opened, or is a FIFO, a socket or a device.
pub fn open_file(path: &Path) -> Result<File, FileError> {
    open_regular(path, OpenOptions::new().read(true)).map_err(FileError::new("open", path))
}

/// Creates a file, for writing, in a folder that no other program uses yet; it is not synced.
///
/// # Errors
/// If the path exists, or the system refuses.
pub fn create_new_file(path: &Path) -> Result<File, FileError> {
    File::create_new(path).map_err(FileError::new("create", path))
}

/// Creates a file whose writes append to it, such as a log.
///
/// # Errors
/// If the path exists, or the system refuses.
pub fn create_log(path: &Path) -> Result<File, FileError> {
    OpenOptions::new().append(true).create_new(true).open(path).map_err(FileError::new("create", path))
}

/// Opens a file whose writes append to it, and creates it if it is missing.
///
/// # Errors
/// If the system refuses, or it is no regular file.
pub fn open_log(path: &Path) -> Result<File, FileError> {
    open_regular(path, OpenOptions::new().append(true).create(true)).map_err(FileError::new("open", path))
}

/// Creates or empties an unfinished file, which only the holder of a lock writes: [`PathLock`](super::PathLock).
///
/// # Errors
/// If the system refuses, or it is no regular file.
pub fn restart_unfinished(path: &Path) -> Result<File, FileError> {
    open_regular(path, OpenOptions::new().write(true).create(true).truncate(true))
        .map_err(FileError::new("create", path))
}

/// Opens an existing unfinished file for reading and writing, to continue it.
///
/// # Errors
/// If it is missing, the system refuses, or it is no regular file.
pub fn reopen_unfinished(path: &Path) -> Result<File, FileError> {
    open_regular(path, OpenOptions::new().read(true).write(true)).map_err(FileError::new("open", path))
}

/// Opens a path that is a regular file or does not exist. A folder can be opened for reading; reading it then fails
/// with the system's message.
fn open_regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    match fs::metadata(path) {
        Ok(found) => check_regular(found.file_type())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // A FIFO that has taken the file's place since does not block either.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, rustix::fs::OFlags::NONBLOCK.bits() as i32);
    let file = options.open(path)?;
    check_regular(file.metadata()?.file_type())?;
    Ok(file)
}

/// Refuses what is neither a regular file nor a folder.
///
/// # Errors
/// The error names what it is.
pub(super) fn check_regular(found: FileType) -> io::Result<()> {
    match special(found) {
        None => Ok(()),
        Some(what) => {
            let reason = format!("it is {what}, expected a regular file: copy the contents into one");
            Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
        }
    }
}

#[cfg(unix)]
fn special(found: FileType) -> Option<&'static str> {
    use std::os::unix::fs::FileTypeExt;
    if found.is_fifo() {
        Some("a FIFO")
    } else if found.is_socket() {
        Some("a socket")
    } else if found.is_char_device() || found.is_block_device() {
        Some("a device")
    } else {
        None
    }
}

#[cfg(not(unix))]
fn special(found: FileType) -> Option<&'static str> {
    (!found.is_file() && !found.is_dir() && !found.is_symlink()).then_some("no regular file")
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn what_is_written_is_appended_or_started_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let text = || fs::read_to_string(&path).unwrap();
        assert_eq!(open_file(&path).unwrap_err().source.kind(), io::ErrorKind::NotFound);
        assert_eq!(reopen_unfinished(&path).unwrap_err().source.kind(), io::ErrorKind::NotFound);
        create_log(&path).unwrap().write_all(b"a").unwrap();
        open_log(&path).unwrap().write_all(b"b").unwrap();
        for error in [create_log(&path).unwrap_err(), create_new_file(&path).unwrap_err()] {
            assert_eq!(error.source.kind(), io::ErrorKind::AlreadyExists);
        }
        assert_eq!(text(), "ab");
        let mut file = reopen_unfinished(&path).unwrap();
        file.read_exact(&mut [0]).unwrap();
        file.write_all(b"c").unwrap();
        assert_eq!(text(), "ac");
        restart_unfinished(&path).unwrap().write_all(b"d").unwrap();
        assert_eq!(text(), "d");
    }

    /// Without a check, opening the FIFO for reading would never return.
    #[cfg(unix)]
    #[test]
    fn fifos_sockets_and_devices_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let (fifo, socket, link) =
            (folder.path().join("fifo"), folder.path().join("socket"), folder.path().join("link"));
        make_fifo(&fifo);
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        for (path, what) in [(&fifo, "a FIFO"), (&socket, "a socket"), (&link, "a device")] {
            for error in [
                open_file(path).unwrap_err(),
                open_log(path).unwrap_err(),
                restart_unfinished(path).unwrap_err(),
                reopen_unfinished(path).unwrap_err(),
            ] {
                let message = error.to_string();
                assert!(message.contains(&format!("it is {what}, expected a regular file")), "{message}");
            }
        }
    }

    #[cfg(unix)]
    fn make_fifo(path: &Path) {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }
}
