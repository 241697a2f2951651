//! Renames that do not replace, and renames that exchange.

use std::fs;
use std::io;
use std::path::Path;

/// Renames a file unless something exists at `to`, in one step where the system can.
pub(super) fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    match rename_exclusive(from, to) {
        Some(renamed) => renamed,
        None => link_and_remove(from, to),
    }
}

/// None where the system or the file system lacks this rename.
#[cfg(any(target_os = "linux", target_os = "macos"))]
fn rename_exclusive(from: &Path, to: &Path) -> Option<io::Result<()>> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => None,
        renamed => Some(renamed.map_err(io::Error::from)),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn rename_exclusive(_: &Path, _: &Path) -> Option<io::Result<()>> {
    None
}

/// A second name never replaces a file either. File systems without second names are left with a check before the rename.
fn link_and_remove(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(_) if to.symlink_metadata().is_ok() => Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(from, to),
    }
}

/// Exchanges two paths in one step; false where the system cannot.
#[cfg(any(target_os = "linux", target_os = "macos"))]
pub(super) fn exchange(a: &Path, b: &Path) -> bool {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).is_ok()
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(super) fn exchange(_: &Path, _: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_of_renaming_leaves_an_existing_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for rename in [rename_no_replace, link_and_remove] {
            fs::write(at("new"), "new").unwrap();
            rename(&at("new"), &at("result")).unwrap();
            fs::write(at("new"), "newer").unwrap();
            assert_eq!(rename(&at("new"), &at("result")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read(at("result")).unwrap(), b"new");
            assert_eq!(fs::read(at("new")).unwrap(), b"newer");
            fs::remove_file(at("result")).unwrap();
        }
    }
}
