//! Locks on paths: one process at a time creates, replaces or continues what is at a path.
//!
//! The lock is taken before the first look at the path, so that a check and what follows it see the same files. It is a
//! lock of the system on a file `.NAME.lock` beside the path, which need not exist itself; the system releases it when
//! the process ends, however it ends. The file says who holds it, for other programs' messages, and is removed at the end.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use super::FileError;
use super::replace::create_folders;
use super::same::is_at;
use super::temporary::{parent_of, sibling};

/// Name of the lock file of a folder whose own folder cannot be written to: it is inside then.
const INSIDE: &str = ".calame.lock";
/// Attempts to lock a file that its holder is about to remove, or to read a holder who has not written yet.
const ATTEMPTS: usize = 50;
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(2);
/// More than a holder writes; a longer file is not ours.
const MAX_HOLDER_BYTES: u64 = 4096;

/// A holder that has not said who it is.
const UNKNOWN: &str = "another program";

/// What the locks of this process say about it, besides its number.
static DESCRIPTION: OnceLock<String> = OnceLock::new();

/// Describes this process to others that meet its locks: its command and when it was started. Only the first call has an
/// effect.
pub fn describe_process(command: &str, since: &str) {
    // In one line, and short enough to be read back whole.
    let command: String = command.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect();
    let _ = DESCRIPTION.set(format!("`{command}`, since {since}"));
}

/// Why a path is not locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds the lock.
    #[error("{} is in use by {holder}: wait until it has ended, or choose another path", .path.display())]
    Held {
        /// The path to be locked.
        path: PathBuf,
        /// Number, command and start of the process, as far as they are known.
        holder: String,
    },
    /// The system refused a file operation.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Exclusive use of a path among the programs that lock it, as long as it exists.
#[derive(Debug)]
pub struct PathLock {
    file: PathBuf,
    /// `None` if the system does not support such locks.
    lock: Option<File>,
    /// Folders that were created for the lock, the outermost first; those that are empty at the end are removed.
    created: Vec<PathBuf>,
}

impl PathLock {
    /// Locks `path`, which need not exist; folders above it are created.
    ///
    /// The lock file of a folder is inside it, as `.calame.lock`, where it cannot be beside it: on a disk of its own.
    ///
    /// # Errors
    /// If another process holds the lock, or the folder above `path` cannot be written to.
    pub fn acquire(path: &Path) -> Result<PathLock, LockError> {
        // `.` and `..` have no name to put the lock beside.
        let resolved = if path.file_name().is_none() { fs::canonicalize(path).ok() } else { None };
        let mut file = sibling(resolved.as_deref().unwrap_or(path), "lock");
        let mut created = Vec::new();
        for attempt in 1..=ATTEMPTS {
            created.extend(create_folders(parent_of(&file))?);
            let mut lock = match open_lock(&file) {
                // Another process has removed the folder that it had created.
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS => continue,
                Err(error) if is_forbidden(&error) && path.is_dir() && !file.ends_with(INSIDE) => {
                    file = path.join(INSIDE);
                    continue;
                }
                opened => opened.map_err(FileError::new("create", &file))?,
            };
            match lock.try_lock() {
                Ok(()) if is_at(&lock, &file) => {
                    // Without it, the message of other programs says less; a lock must work on a full disk too.
                    let _ = lock.set_len(0).and_then(|()| lock.write_all(description().as_bytes()));
                    return Ok(PathLock { file, lock: Some(lock), created });
                }
                // Removed by its holder, who has ended.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    if let Some(holder) = read_holder(&mut lock) {
                        return Err(LockError::Held { path: path.to_owned(), holder });
                    }
                    thread::sleep(PAUSE);
                }
                Err(TryLockError::Error(_)) => return Ok(PathLock { file, lock: None, created }),
            }
        }
        Err(LockError::Held { path: path.to_owned(), holder: UNKNOWN.to_owned() })
    }
}

/// Locks a folder itself, without a file, for as long as the result exists; it follows the folder when that is renamed.
/// `None` if the system cannot lock folders.
///
/// # Errors
/// If another process holds the lock.
pub fn lock_folder(folder: &Path) -> Result<Option<File>, LockError> {
    for _ in 0..ATTEMPTS {
        // A link is not the folder that it leads to.
        let Ok(resolved) = fs::canonicalize(folder) else { return Ok(None) };
        let Ok(file) = File::open(&resolved) else { return Ok(None) };
        match file.try_lock() {
            Ok(()) if is_at(&file, &resolved) => return Ok(Some(file)),
            // It was replaced after it was opened.
            Ok(()) => {}
            // A program that only checks whether it is locked holds the lock for microseconds.
            Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
            Err(TryLockError::Error(_)) => return Ok(None),
        }
    }
    Err(LockError::Held { path: folder.to_owned(), holder: UNKNOWN.to_owned() })
}

/// Whether a process holds the lock of a folder itself; false if the system cannot lock folders.
pub fn is_folder_locked(folder: &Path) -> bool {
    File::open(folder).is_ok_and(|folder| matches!(folder.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Whether a file of this name in a folder is a lock of calame.
pub fn is_lock_name(name: &str) -> bool {
    name == INSIDE
}

impl Drop for PathLock {
    fn drop(&mut self) {
        // Removed while it is locked: a program that opened it before sees that it no longer has a name. Where that
        // cannot be seen, the file stays.
        if cfg!(unix) || self.lock.is_none() {
            let _ = fs::remove_file(&self.file);
        }
        self.lock = None;
        for folder in self.created.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    // Through a link, the description would be written into another file.
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags.bits() as i32);
    }
    options.open(path)
}

fn is_forbidden(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

fn description() -> String {
    let described = DESCRIPTION.get().map_or(String::new(), |text| format!(" ({text})"));
    format!("process {}{described}\n", std::process::id())
}

/// The holder's description, once it is complete.
fn read_holder(lock: &mut File) -> Option<String> {
    let mut text = String::new();
    lock.take(MAX_HOLDER_BYTES).read_to_string(&mut text).ok()?;
    let line = text.strip_suffix('\n')?;
    (!line.is_empty() && !line.contains(char::is_control)).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time_and_the_other_learns_who() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/run");
        let lock = PathLock::acquire(&path).unwrap();
        let error = PathLock::acquire(&path).unwrap_err().to_string();
        let expected = format!("{} is in use by process {}", path.display(), std::process::id());
        assert!(error.starts_with(&expected), "{error}");
        // Another path is another lock.
        PathLock::acquire(&folder.path().join("deep/run2")).unwrap();
        drop(lock);
        assert!(!folder.path().join("deep").exists(), "nothing is left");
        // What a killed program leaves does not lock.
        fs::write(folder.path().join(".run.lock"), "process 1 (gone)\n").unwrap();
        let lock = PathLock::acquire(&folder.path().join("run")).unwrap();
        fs::write(folder.path().join("run"), "").unwrap();
        drop(lock);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_one_of_many_threads_holds_it() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/run");
        let (n_inside, n_locked) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let Ok(lock) = PathLock::acquire(&path) else { continue };
                        assert_eq!(n_inside.fetch_add(1, Ordering::SeqCst), 0, "two hold the lock");
                        n_locked.fetch_add(1, Ordering::SeqCst);
                        n_inside.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
        assert!(n_locked.into_inner() > 0);
        // A folder that several have created and used may stay; nothing is in it.
        let left: Vec<_> = fs::read_dir(folder.path().join("new")).into_iter().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    /// The link would make the lock's holder write into the file that it leads to.
    #[cfg(unix)]
    #[test]
    fn a_link_in_place_of_the_lock_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("letter"), "Dear Ada").unwrap();
        std::os::unix::fs::symlink("letter", folder.path().join(".run.lock")).unwrap();
        assert!(PathLock::acquire(&folder.path().join("run")).is_err());
        assert_eq!(fs::read_to_string(folder.path().join("letter")).unwrap(), "Dear Ada");
    }
}
