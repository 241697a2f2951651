//! Folders and files that appear whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::CheckpointError;

/// Fills a new folder by `fill` and puts it at `folder`; what stood there stands until the new one is complete.
///
/// The new folder is made as `.<name>.partial` beside it (a left-over of a killed program is removed first), its files are
/// synced, it takes the place of the old one in one exchange where the system can, and the parent is synced. Only a folder
/// is replaced: a file of that name is somebody's, and an error.
pub(super) fn replace_folder(
    folder: &Path,
    fill: impl FnOnce(&Path) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    if folder.exists() && !folder.is_dir() {
        return Err(CheckpointError::io("replace", folder)(io::ErrorKind::NotADirectory.into()));
    }
    let partial = sibling(folder, "partial");
    remove_if_there(&partial)?;
    fs::create_dir_all(&partial).map_err(CheckpointError::io("create", &partial))?;
    let filled = fill(&partial).and_then(|()| sync_files(&partial)).and_then(|()| put_in_place(&partial, folder));
    if filled.is_err() {
        // The first error is the one to tell; a left-over is removed by the next attempt too.
        let _ = fs::remove_dir_all(&partial);
    }
    filled
}

/// Fills a new file by `fill` and puts it at `path`; what stood there stands until the new one is complete.
///
/// The new file is made as `.<name>.partial` beside it, synced and renamed, and the parent is synced. Only a file is
/// replaced: a folder of that name is somebody's, and an error.
pub(super) fn replace_file(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    if path.is_dir() {
        return Err(CheckpointError::io("replace", path)(io::ErrorKind::IsADirectory.into()));
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(CheckpointError::io("create", parent))?;
    }
    let partial = sibling(path, "partial");
    let file = File::create(&partial).map_err(CheckpointError::io("create", &partial))?;
    let mut file = BufWriter::new(file);
    let written = fill(&mut file)
        .and_then(|()| file.flush().map_err(CheckpointError::io("write", &partial)))
        .and_then(|()| file.get_ref().sync_all().map_err(CheckpointError::io("sync", &partial)))
        .and_then(|()| fs::rename(&partial, path).map_err(CheckpointError::io("rename", &partial)))
        .and_then(|()| sync_parent(path));
    if written.is_err() {
        // The first error is the one to tell; a left-over is overwritten by the next attempt too.
        let _ = fs::remove_file(&partial);
    }
    written
}

/// Puts a text file at `path`, whole; what stood there stands until the new one is complete.
///
/// # Errors
/// What the system says, with the file's name.
pub fn replace_text(path: &Path, text: &str) -> Result<(), CheckpointError> {
    replace_file(path, |file| file.write_all(text.as_bytes()).map_err(CheckpointError::io("write", path)))
}

fn sibling(folder: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(folder.file_name().unwrap_or_default());
    name.push(".");
    name.push(ending);
    folder.with_file_name(name)
}

pub(super) fn remove_if_there(folder: &Path) -> Result<(), CheckpointError> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(CheckpointError::io("remove", folder)(e)),
        _ => Ok(()),
    }
}

fn sync_files(folder: &Path) -> Result<(), CheckpointError> {
    let entries = fs::read_dir(folder).map_err(CheckpointError::io("read", folder))?;
    for entry in entries {
        let path = entry.map_err(CheckpointError::io("read", folder))?.path();
        sync(&path)?;
    }
    sync(folder)
}

fn sync(path: &Path) -> Result<(), CheckpointError> {
    let file = File::open(path).map_err(CheckpointError::io("open", path))?;
    file.sync_all().map_err(CheckpointError::io("sync", path))
}

/// Puts a complete folder in the place of another, in one exchange where the system can; the old one is removed then.
///
/// # Errors
/// If the system refuses; the old one is in its place then.
pub(crate) fn put_in_place(partial: &Path, folder: &Path) -> Result<(), CheckpointError> {
    let previous = sibling(folder, "previous");
    if !folder.exists() {
        fs::rename(partial, folder).map_err(CheckpointError::io("rename", partial))?;
    } else if !exchange(partial, folder) {
        // Without an exchange there is a moment in which the old one has its other name.
        remove_if_there(&previous)?;
        fs::rename(folder, &previous).map_err(CheckpointError::io("rename", folder))?;
        if let Err(error) = fs::rename(partial, folder) {
            fs::rename(&previous, folder).map_err(CheckpointError::io("put back", folder))?;
            return Err(CheckpointError::io("rename", partial)(error));
        }
    }
    // The old one has one of these names now, or had it when a program was killed.
    remove_if_there(partial)?;
    remove_if_there(&previous)?;
    sync_parent(folder)
}

fn sync_parent(path: &Path) -> Result<(), CheckpointError> {
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

/// Writes a small text file of a new folder.
pub(super) fn write(path: &Path, text: &str) -> Result<(), CheckpointError> {
    write_bytes(path, text.as_bytes())
}

/// Writes a small file of a new folder.
pub(super) fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let mut file = File::create(path).map_err(CheckpointError::io("create", path))?;
    file.write_all(bytes).map_err(CheckpointError::io("write", path))
}
