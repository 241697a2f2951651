//! Files and folders under temporary names, until they are complete.
//!
//! A temporary name is `.NAME.PID-N.partial` beside the destination; no two writers share one. Its writer holds a lock
//! on it, which the system releases with the process: an unlocked one belongs to a program that was killed, and the next
//! writer of the same destination removes it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::FileError;
use super::hash::sha256_hex;
use super::same::is_at;

/// The ending of temporary names.
const ENDING: &str = ".partial";
/// A longer name is shortened: systems allow 255 bytes, ending included.
const MAX_NAME_BYTES: usize = 180;
/// Characters that a shortened name begins with.
const N_KEPT_CHARS: usize = 40;

/// A new file or folder under a temporary name. It is removed when dropped, unless it was given its final name.
#[derive(Debug)]
pub(super) struct Temporary {
    path: PathBuf,
    /// The file or folder itself; its lock shows that the writer lives. `None` if the system cannot open folders.
    file: Option<File>,
    is_folder: bool,
    is_moved: bool,
}

impl Temporary {
    /// A new file beside `destination`.
    pub(super) fn file(destination: &Path) -> Result<Temporary, FileError> {
        Temporary::new(destination, false, |path| File::create_new(path).map(Some))
    }

    /// A new folder beside `destination`.
    pub(super) fn folder(destination: &Path) -> Result<Temporary, FileError> {
        Temporary::new(destination, true, |path| {
            fs::create_dir(path)?;
            Ok(File::open(path).ok())
        })
    }

    fn new(
        destination: &Path,
        is_folder: bool,
        create: impl Fn(&Path) -> io::Result<Option<File>>,
    ) -> Result<Temporary, FileError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        remove_abandoned(destination);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = sibling(destination, &format!("{}-{number}{ENDING}", std::process::id()));
            let file = match create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other.map_err(FileError::new("create", &path))?,
            };
            // Another program may take a file that is not locked yet for an abandoned one, and remove it.
            if let Some(file) = &file
                && (matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)) || !is_at(file, &path))
            {
                continue;
            }
            return Ok(Temporary { path, file, is_folder, is_moved: false });
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A second handle of the file.
    pub(super) fn writer(&self) -> Result<File, FileError> {
        let file = self.file.as_ref().ok_or_else(|| io::ErrorKind::Unsupported.into());
        file.and_then(File::try_clone).map_err(FileError::new("open", &self.path))
    }

    /// Declares that it has its final name. Returns the handle that holds its lock.
    pub(super) fn moved(mut self) -> Option<File> {
        self.is_moved = true;
        self.file.take()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_moved {
            // An error is being reported already; the next writer removes it too.
            let _ = if self.is_folder { fs::remove_dir_all(&self.path) } else { fs::remove_file(&self.path) };
        }
    }
}

/// Removes what killed programs left beside `destination`, unfinished. Failures are ignored: it is in nobody's way.
pub fn remove_abandoned(destination: &Path) {
    let prefix = sibling(destination, "");
    let prefix = prefix.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let parent = parent_of(destination);
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let numbers = name.to_str().and_then(|name| name.strip_prefix(&prefix)?.strip_suffix(ENDING));
        let is_temporary = numbers.is_some_and(is_unique);
        if !is_temporary || !entry.file_type().is_ok_and(|kind| kind.is_file() || kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        // The lock is held until it is removed.
        if let Ok(file) = File::open(&path)
            && file.try_lock().is_ok()
        {
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
}

/// Whether a name is the temporary one of some destination.
pub fn is_temporary_name(name: &str) -> bool {
    let beginning = name.strip_prefix('.').and_then(|rest| rest.strip_suffix(ENDING));
    beginning.and_then(|rest| rest.rsplit_once('.')).is_some_and(|(_, numbers)| is_unique(numbers))
}

/// Whether a text is `PID-N`.
fn is_unique(numbers: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers.split_once('-').is_some_and(|(process, number)| is_number(process) && is_number(number))
}

/// The path of a hidden file `.NAME.ending` in the folder of `path`.
pub(super) fn sibling(path: &Path, ending: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default();
    let mut hidden = OsString::from(".");
    match name.to_string_lossy() {
        long if long.len() > MAX_NAME_BYTES => {
            // The hash keeps names apart that begin alike.
            hidden.push(long.chars().take(N_KEPT_CHARS).collect::<String>());
            hidden.push(&sha256_hex(name.as_encoded_bytes())[..16]);
        }
        _ => hidden.push(name),
    }
    hidden.push(".");
    hidden.push(ending);
    path.with_file_name(hidden)
}

/// The folder that a path is in.
pub(super) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_program_left_is_removed_and_what_is_being_written_stays() {
        let folder = tempfile::tempdir().unwrap();
        let destination = folder.path().join("model");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at(".model.1-0.partial")).unwrap();
        fs::write(at(".model.1-0.partial").join("half"), "").unwrap();
        fs::write(at(".model.77-3.partial"), "half").unwrap();
        let others = [".model.partial", ".model.x-1.partial", ".model.1-.partial", ".models.1-0.partial", "model"];
        others.iter().for_each(|name| fs::write(at(name), "of somebody else").unwrap());
        let writing = Temporary::folder(&destination).unwrap();
        let file = Temporary::file(&destination).unwrap();
        assert!(!at(".model.1-0.partial").exists() && !at(".model.77-3.partial").exists());
        assert!(writing.path().is_dir() && file.path().is_file() && writing.path() != file.path());
        assert!(others.iter().all(|name| at(name).exists()));
        let (a, b) = (writing.path().to_owned(), file.path().to_owned());
        drop((writing, file));
        assert!(!a.exists() && !b.exists());
    }

    #[test]
    fn a_long_name_has_a_short_temporary_one() {
        let folder = tempfile::tempdir().unwrap();
        let destination = folder.path().join("é".repeat(120));
        fs::write(&destination, "").unwrap();
        let path = Temporary::file(&destination).unwrap().path().to_owned();
        assert!(path.file_name().unwrap().len() < 150, "{path:?}");
        let other = sibling(&folder.path().join("é".repeat(121)), "lock");
        assert_ne!(sibling(&destination, "lock"), other);
    }
}
