//! Atomic replacement of files and folders: the old one stays in place until the new one is complete and on the disk.
//!
//! The new one is written beside its destination under a temporary name that no other program uses, synced, and renamed;
//! then the parent folder is synced, so that the new name survives a power cut. [`create_file`] and [`create_folder_locked`]
//! rename without replacing: where another program has made the destination meanwhile, they fail and leave it alone.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::FileError;
use super::open::{check_regular, create_new_file};
use super::rename::{exchange, rename_no_replace};
use super::temporary::{Temporary, parent_of, sibling};

/// Bytes buffered before each write; large enough that system calls cost little next to the disk.
const BUFFER_BYTES: usize = 1 << 20;

/// What happens to a file that exists at the destination.
#[derive(Clone, Copy, PartialEq)]
enum Existing {
    /// It is replaced if it was there at the beginning; one that appears meanwhile is left alone.
    Known,
    /// It is replaced whenever it appears.
    Shared,
    /// It is left alone.
    Refused,
}

/// Replaces or creates the file at `path` with what `fill` writes. If the path is a link to a file, that file is
/// replaced.
///
/// # Errors
/// The error of `fill`, or the system's, as for a missing folder; the file that existed before is intact then, and nothing
/// new remains. Folders and devices are never replaced, and no file that appears while `fill` runs.
pub fn replace_file<E: From<FileError>>(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    write(path, Existing::Known, fill)
}

/// As [`replace_file`], in a folder that several programs may write to at the same time, such as a cache: the last one to
/// finish wins.
///
/// # Errors
/// As [`replace_file`].
pub fn replace_shared_file<E: From<FileError>>(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    write(path, Existing::Shared, fill)
}

/// Creates the file at `path` with what `fill` writes.
///
/// # Errors
/// As [`replace_file`]; a file that exists there, also since `fill` began, is left alone, and the reason is of kind
/// [`AlreadyExists`](io::ErrorKind::AlreadyExists).
pub fn create_file<E: From<FileError>>(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    write(path, Existing::Refused, fill)
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
    replace_folder_locked(folder, fill).map(drop)
}

/// As [`replace_folder`]; the result is the new folder, locked for this process since before it got its name, where the
/// system can open and lock folders.
///
/// # Errors
/// As [`replace_folder`].
pub fn replace_folder_locked<E: From<FileError>>(
    folder: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<Option<File>, E> {
    if folder.exists() && !folder.is_dir() {
        return Err(FileError::new("replace", folder)(io::ErrorKind::NotADirectory.into()).into());
    }
    fill_folder(folder, fill, |temporary| move_folder(temporary, folder))
}

/// Creates the folder at `folder`, as [`replace_folder_locked`] does. An empty folder may exist there.
///
/// # Errors
/// As [`replace_folder`]; what exists there, also since `fill` began, is left alone.
pub fn create_folder_locked<E: From<FileError>>(
    folder: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<Option<File>, E> {
    fill_folder(folder, fill, |temporary| {
        // Only Unix replaces an empty folder by a rename; nothing replaces one that has files.
        if cfg!(not(unix)) && folder.is_dir() {
            fs::remove_dir(folder).map_err(FileError::new("create", folder))?;
        }
        fs::rename(temporary, folder).map_err(FileError::new("create", folder))?;
        sync_parent(folder)
    })
}

fn fill_folder<E: From<FileError>>(
    folder: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
    give_name: impl FnOnce(&Path) -> Result<(), FileError>,
) -> Result<Option<File>, E> {
    create_parent_folder(folder)?;
    let temporary = Temporary::folder(folder)?;
    fill(temporary.path())?;
    sync_files(temporary.path())?;
    give_name(temporary.path())?;
    Ok(temporary.moved())
}

/// Writes a file where it is to remain, without syncing it: for the files of a folder that [`replace_folder`] fills.
///
/// # Errors
/// If it exists, or the system refuses; a part of the file may be written then.
pub fn write_new_file(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    create_new_file(path)?.write_all(bytes).map_err(FileError::new("write", path))
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
    create_folders(parent_of(path)).map(drop)
}

/// Creates a folder and those above it where they are missing, and syncs their names. Returns those that it created, the
/// outermost first.
///
/// # Errors
/// If the system refuses.
pub fn create_folders(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let missing: Vec<PathBuf> = folder
        .ancestors()
        .filter(|path| !path.as_os_str().is_empty())
        .take_while(|path| path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound))
        .map(Path::to_owned)
        .collect();
    for folder in missing.iter().rev() {
        match fs::create_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => created.map_err(FileError::new("create", folder))?,
        }
        sync_parent(folder)?;
    }
    Ok(missing.into_iter().rev().collect())
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

fn write<E: From<FileError>>(
    path: &Path,
    existing: Existing,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let (destination, exists) = destination(path, existing)?;
    let temporary = Temporary::file(&destination)?;
    let mut file = BufWriter::with_capacity(BUFFER_BYTES, temporary.writer()?);
    fill(&mut file)?;
    let sync = |file: &mut BufWriter<File>| file.flush().and_then(|()| file.get_ref().sync_all());
    sync(&mut file).map_err(FileError::new("write", path))?;
    drop(file);
    if exists || existing == Existing::Shared {
        // The owner may have hidden the old file from others.
        if let Ok(old) = fs::metadata(&destination) {
            let _ = fs::set_permissions(temporary.path(), old.permissions());
        }
        fs::rename(temporary.path(), &destination).map_err(FileError::new("replace", path))?;
    } else {
        rename_no_replace(temporary.path(), &destination).map_err(FileError::new("create", path))?;
    }
    temporary.moved();
    Ok(sync_parent(&destination)?)
}

/// The path to write, that of the file itself if `path` is a link to one, and whether a file exists there.
fn destination(path: &Path, existing: Existing) -> Result<(PathBuf, bool), FileError> {
    let Ok(found) = fs::metadata(path) else { return Ok((path.to_owned(), false)) };
    if found.is_dir() {
        return Err(FileError::new("replace", path)(io::ErrorKind::IsADirectory.into()));
    }
    check_regular(found.file_type()).map_err(FileError::new("replace", path))?;
    if existing == Existing::Refused {
        return Err(FileError::new("create", path)(io::ErrorKind::AlreadyExists.into()));
    }
    let resolved = if path.is_symlink() { fs::canonicalize(path) } else { Ok(path.to_owned()) };
    Ok((resolved.map_err(FileError::new("replace", path))?, true))
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
        let path = entry.map_err(FileError::new("read", folder))?.path();
        // Windows syncs only what is open for writing.
        let file =
            File::options().read(true).write(cfg!(windows)).open(&path).map_err(FileError::new("open", &path))?;
        file.sync_all().map_err(FileError::new("sync", &path))?;
    }
    sync_folder(folder)
}

/// Syncs the names in a folder; Windows cannot, and does not need it.
fn sync_folder(folder: &Path) -> Result<(), FileError> {
    if cfg!(windows) {
        return Ok(());
    }
    let file = File::open(folder).map_err(FileError::new("open", folder))?;
    file.sync_all().map_err(FileError::new("sync", folder))
}

fn sync_parent(path: &Path) -> Result<(), FileError> {
    sync_folder(parent_of(path))
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
        let path = folder.path().join("deep/er/file.txt");
        assert_eq!(replace_bytes(&path, b"old").unwrap_err().source.kind(), io::ErrorKind::NotFound);
        create_parent_folder(&path).unwrap();
        replace_bytes(&path, b"old").unwrap();
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
        assert_eq!(replace_file(&path, fill).unwrap_err().action, "fill");
        assert_eq!((fs::read(&path).unwrap(), names(folder.path())), (b"old".to_vec(), vec!["file.txt".to_owned()]));
        let other = folder.path().join("other");
        assert_eq!(create_file(&other, fill).unwrap_err().action, "fill");
        assert_eq!(names(folder.path()), ["file.txt"]);
    }

    /// Also where the file appears while the new one is written.
    #[test]
    fn a_new_file_or_folder_replaces_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let (file, folder) = (parent.path().join("file"), parent.path().join("folder"));
        let of_another = |_: &mut BufWriter<File>| -> Result<(), FileError> {
            fs::write(&file, "of another").unwrap();
            Ok(())
        };
        let error = create_file(&file, of_another).unwrap_err();
        assert_eq!((error.action, error.source.kind()), ("create", io::ErrorKind::AlreadyExists));
        fs::remove_file(&file).unwrap();
        let error = replace_file(&file, of_another).unwrap_err();
        assert_eq!((error.action, error.source.kind()), ("create", io::ErrorKind::AlreadyExists));
        let fill = |_: &mut BufWriter<File>| -> Result<(), FileError> { panic!("it exists") };
        assert_eq!(create_file(&file, fill).unwrap_err().source.kind(), io::ErrorKind::AlreadyExists);
        let error = create_folder_locked(&folder, |_| {
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("of another"), "").unwrap();
            Ok::<(), FileError>(())
        });
        assert_eq!(error.unwrap_err().action, "create");
        assert_eq!(fs::read(&file).unwrap(), b"of another");
        assert_eq!(
            (names(parent.path()), names(&folder)),
            (vec!["file".to_owned(), "folder".to_owned()], vec!["of another".to_owned()])
        );
        // An empty folder is taken.
        fs::remove_file(folder.join("of another")).unwrap();
        create_folder_locked(&folder, |partial| write_new_file(&partial.join("a"), b"")).unwrap();
        assert_eq!(names(&folder), ["a"]);
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

    /// The superuser could replace `/dev/null` itself by a file.
    #[cfg(unix)]
    #[test]
    fn a_device_is_not_replaced_and_a_link_keeps_leading_to_its_file() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        symlink("/dev/null", at("null")).unwrap();
        let error = replace_bytes(&at("null"), b"x").unwrap_err().to_string();
        assert!(error.contains("it is a device, expected a regular file"), "{error}");
        replace_bytes(&at("file"), b"old").unwrap();
        fs::set_permissions(at("file"), fs::Permissions::from_mode(0o600)).unwrap();
        symlink("file", at("link")).unwrap();
        replace_bytes(&at("link"), b"new").unwrap();
        assert!(at("link").is_symlink() && at("null").is_symlink());
        assert_eq!(fs::read(at("file")).unwrap(), b"new");
        assert_eq!(fs::metadata(at("file")).unwrap().permissions().mode() & 0o777, 0o600);
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
            move |partial: &Path| fs::write(partial.join(name), name).map_err(FileError::new("write", partial))
        };
        let lock = replace_folder_locked(&folder, write("first")).unwrap();
        let is_locked = || File::open(&folder).unwrap().try_lock().is_err();
        assert!(!cfg!(unix) || is_locked());
        drop(lock);
        assert!(!is_locked());
        // Left behind by a killed program.
        fs::create_dir(sibling(&folder, "previous")).unwrap();
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
