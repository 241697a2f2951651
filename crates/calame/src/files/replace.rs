//! Atomic replacement of files and folders: the old one stays in place until the new one is complete and on the disk.
//!
//! The new one is written beside its destination as `.NAME.partial`, synced, and renamed; then the parent folder is synced,
//! so that the new name survives a power cut. A partial file of a killed program is overwritten by the next attempt.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::FileError;

/// Bytes buffered before each write; large enough that system calls cost little next to the disk.
const BUFFER_BYTES: usize = 1 << 20;

/// Replaces or creates the file at `path` with what `fill` writes.
///
/// # Errors
/// The error of `fill`, or the system's, as for a missing folder; the file that existed before is intact then, and nothing
/// new remains. A folder is never replaced by a file.
pub fn replace_file<E: From<FileError>>(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    write_and_rename(path, &unfinished_path(path), fill)
}

/// As [`replace_file`], in a folder that several programs may write to at the same time, such as a cache: each writes its
/// own partial file, and the last one to finish wins. A killed program's partial file remains.
///
/// # Errors
/// As [`replace_file`].
pub fn replace_shared_file<E: From<FileError>>(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let ending = format!("{}-{number}.partial", std::process::id());
    write_and_rename(path, &sibling(path, &ending), fill)
}

/// Replaces or creates the file at `path` with `bytes`.
///
/// # Errors
/// As [`replace_file`].
pub fn replace_bytes(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    replace_file(path, |file| file.write_all(bytes).map_err(FileError::new("write", path)))
}

/// Replaces or creates the folder at `folder` with one whose files `fill` writes into the path that it receives.
///
/// The two folders are exchanged in one step where the system can; the old one is removed afterwards.
///
/// # Errors
/// The error of `fill`, or the system's; the folder that existed before is intact then, and nothing new remains. A file is
/// never replaced by a folder.
pub fn replace_folder<E: From<FileError>>(folder: &Path, fill: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
    if folder.exists() && !folder.is_dir() {
        return Err(FileError::new("replace", folder)(io::ErrorKind::NotADirectory.into()).into());
    }
    let partial = unfinished_path(folder);
    remove_folder_if_exists(&partial)?;
    fs::create_dir_all(&partial).map_err(FileError::new("create", &partial))?;
    let filled =
        fill(&partial).and_then(|()| Ok(sync_files(&partial)?)).and_then(|()| Ok(move_folder(&partial, folder)?));
    if filled.is_err() {
        // The first error is the one to report; a left-over is removed by the next attempt too.
        let _ = fs::remove_dir_all(&partial);
    }
    filled
}

/// Writes a file where it is to remain, without syncing it: for the files of a folder that [`replace_folder`] fills.
///
/// # Errors
/// If the system refuses; a part of the file may be written then.
pub fn write_new_file(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut file = File::create(path).map_err(FileError::new("create", path))?;
    file.write_all(bytes).map_err(FileError::new("write", path))
}

/// Moves a complete folder to `folder`, replacing the one that exists there in one exchange where the system can.
///
/// # Errors
/// If the system refuses; the old folder is in its place then.
pub fn move_folder(from: &Path, folder: &Path) -> Result<(), FileError> {
    let previous = sibling(folder, "previous");
    if !folder.exists() {
        fs::rename(from, folder).map_err(FileError::new("rename", from))?;
    } else if !exchange(from, folder) {
        // Without an exchange there is a moment at which the old folder has its other name.
        remove_folder_if_exists(&previous)?;
        fs::rename(folder, &previous).map_err(FileError::new("rename", folder))?;
        if let Err(error) = fs::rename(from, folder) {
            fs::rename(&previous, folder).map_err(FileError::new("restore", folder))?;
            return Err(FileError::new("rename", from)(error));
        }
    }
    // The old folder has one of these names now, or had it when a program was killed.
    remove_folder_if_exists(from)?;
    remove_folder_if_exists(&previous)?;
    sync_parent(folder)
}

/// Renames a file that is on the disk already and syncs the folder of its new name.
///
/// # Errors
/// If the system refuses.
pub fn rename_synced(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).map_err(FileError::new("rename", from))?;
    sync_parent(to)
}

/// Creates the folder that `path` is in, and those above it, where they are missing.
///
/// # Errors
/// If the system refuses.
pub fn create_parent_folder(path: &Path) -> Result<(), FileError> {
    path.parent().map_or(Ok(()), |parent| fs::create_dir_all(parent).map_err(FileError::new("create", parent)))
}

/// Removes a file; succeeds if there is none.
///
/// # Errors
/// If the system refuses.
pub fn remove_file_if_exists(path: &Path) -> Result<(), FileError> {
    if_exists(fs::remove_file(path)).map_err(FileError::new("remove", path))
}

/// Removes a folder with everything in it; succeeds if there is none.
///
/// # Errors
/// If the system refuses; a part of it may be removed then.
pub fn remove_folder_if_exists(folder: &Path) -> Result<(), FileError> {
    if_exists(fs::remove_dir_all(folder)).map_err(FileError::new("remove", folder))
}

/// The path under which [`replace_file`] and [`replace_folder`] write the successor of `path`: `.NAME.partial` beside it.
pub fn unfinished_path(path: &Path) -> PathBuf {
    sibling(path, "partial")
}

fn write_and_rename<E: From<FileError>>(
    path: &Path,
    partial: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    if path.is_dir() {
        return Err(FileError::new("replace", path)(io::ErrorKind::IsADirectory.into()).into());
    }
    let file = File::create(partial).map_err(FileError::new("create", partial))?;
    let mut file = BufWriter::with_capacity(BUFFER_BYTES, file);
    let sync = |file: &mut BufWriter<File>| file.flush().and_then(|()| file.get_ref().sync_all());
    let written = fill(&mut file)
        .and_then(|()| Ok(sync(&mut file).map_err(FileError::new("write", path))?))
        .and_then(|()| Ok(rename_synced(partial, path)?));
    if written.is_err() {
        // The first error is the one to report; a left-over is overwritten by the next attempt too.
        let _ = fs::remove_file(partial);
    }
    written
}

fn sibling(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

fn if_exists(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn sync_files(folder: &Path) -> Result<(), FileError> {
    let entries = fs::read_dir(folder).map_err(FileError::new("read", folder))?;
    for entry in entries {
        sync(&entry.map_err(FileError::new("read", folder))?.path())?;
    }
    sync(folder)
}

fn sync(path: &Path) -> Result<(), FileError> {
    let file = File::open(path).map_err(FileError::new("open", path))?;
    file.sync_all().map_err(FileError::new("sync", path))
}

fn sync_parent(path: &Path) -> Result<(), FileError> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync(parent),
        _ => sync(Path::new(".")),
    }
}

/// Exchanges two paths in one step; false where the system cannot.
#[cfg(target_os = "linux")]
fn exchange(a: &Path, b: &Path) -> bool {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn refused() -> FileError {
        FileError::new("fill", Path::new("it"))(io::ErrorKind::Other.into())
    }

    #[test]
    fn a_file_is_replaced_when_it_is_complete_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/file.txt");
        assert_eq!(replace_bytes(&path, b"old").unwrap_err().source.kind(), io::ErrorKind::NotFound);
        create_parent_folder(&path).unwrap();
        replace_bytes(&path, b"old").unwrap();
        fs::write(unfinished_path(&path), "left by a killed program, and longer than the new one").unwrap();
        replace_file(&path, |file| {
            file.write_all(b"new").unwrap();
            file.flush().unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"old");
            Ok::<(), FileError>(())
        })
        .unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(path.parent().unwrap()), ["file.txt"]);
    }

    #[test]
    fn a_file_that_cannot_be_completed_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.txt");
        replace_bytes(&path, b"old").unwrap();
        let fill = |file: &mut BufWriter<File>| {
            file.write_all(b"half").unwrap();
            Err(refused())
        };
        for error in [replace_file(&path, fill).unwrap_err(), replace_shared_file(&path, fill).unwrap_err()] {
            assert_eq!(error.action, "fill");
        }
        assert_eq!((fs::read(&path).unwrap(), names(folder.path())), (b"old".to_vec(), vec!["file.txt".to_owned()]));
        // Something of the partial file's name that is no file stays.
        fs::create_dir(unfinished_path(&path)).unwrap();
        assert_eq!(replace_bytes(&path, b"new").unwrap_err().path, unfinished_path(&path));
        assert_eq!((fs::read(&path).unwrap(), names(folder.path()).len()), (b"old".to_vec(), 2));
    }

    #[test]
    fn files_and_folders_do_not_replace_each_other() {
        let parent = tempfile::tempdir().unwrap();
        let (file, folder) = (parent.path().join("file"), parent.path().join("folder"));
        fs::write(&file, "text").unwrap();
        fs::create_dir(&folder).unwrap();
        let error = replace_bytes(&folder, b"new").unwrap_err();
        assert_eq!((error.action, error.path.as_path()), ("replace", folder.as_path()));
        let error = replace_folder(&file, |_| Ok::<(), FileError>(())).unwrap_err();
        assert_eq!((error.action, error.path.as_path()), ("replace", file.as_path()));
        assert_eq!(names(parent.path()), ["file", "folder"]);
    }

    #[test]
    fn programs_that_write_one_file_at_the_same_time_do_not_mix() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::thread::scope(|scope| {
            for byte in b'a'..b'e' {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..5 {
                        let piece = [byte; 1000];
                        let fill = |file: &mut BufWriter<File>| {
                            (0..20).for_each(|_| file.write_all(&piece).unwrap());
                            Ok::<(), FileError>(())
                        };
                        replace_shared_file(path, fill).unwrap();
                        let found = fs::read(path).unwrap();
                        assert_eq!((found.len(), found.iter().all(|b| *b == found[0])), (20_000, true));
                    }
                });
            }
        });
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn a_folder_is_replaced_when_it_is_complete_and_not_before() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("model");
        let write = |name: &'static str| {
            let folder = &folder;
            move |partial: &Path| {
                assert!(names(folder.parent().unwrap()).contains(&".model.partial".to_owned()));
                fs::write(partial.join(name), name).map_err(FileError::new("write", partial))
            }
        };
        replace_folder(&folder, write("first")).unwrap();
        // Left behind by killed programs.
        for left_over in [unfinished_path(&folder), sibling(&folder, "previous")] {
            fs::create_dir(&left_over).unwrap();
            fs::write(left_over.join("half"), "").unwrap();
        }
        replace_folder(&folder, write("second")).unwrap();
        assert_eq!((names(parent.path()), names(&folder)), (vec!["model".to_owned()], vec!["second".to_owned()]));
        replace_folder(&folder, |_| Err(refused())).unwrap_err();
        assert_eq!((names(parent.path()), names(&folder)), (vec!["model".to_owned()], vec!["second".to_owned()]));
    }

    #[test]
    fn removing_a_missing_file_succeeds() {
        let parent = tempfile::tempdir().unwrap();
        let (file, folder) = (parent.path().join("file"), parent.path().join("folder"));
        remove_file_if_exists(&file).unwrap();
        remove_folder_if_exists(&folder).unwrap();
        fs::write(&file, "").unwrap();
        fs::create_dir_all(folder.join("inner")).unwrap();
        assert!(remove_file_if_exists(&folder).is_err());
        remove_file_if_exists(&file).unwrap();
        remove_folder_if_exists(&folder).unwrap();
        assert!(names(parent.path()).is_empty());
    }

    #[test]
    fn a_finished_file_gets_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a.partial"), folder.path().join("a"));
        assert_eq!(rename_synced(&from, &to).unwrap_err().action, "rename");
        fs::write(&from, "a").unwrap();
        rename_synced(&from, &to).unwrap();
        assert_eq!(names(folder.path()), ["a"]);
    }
}
