//! Whether the disk has space for what a run will write, checked before the training.

use std::path::Path;

use anyhow::{Result, bail};
use calame::plan::Disk;

use crate::ui::output::{WithHint, note, size};

/// Refuses a run whose model will not fit on the disk of `folder` (which need not exist yet), and warns if the disk has
/// space for the model but not for checkpoints and records as well.
///
/// The files of a run that will be replaced or resumed count as free space. Nothing is refused where the free space is
/// unknown.
///
/// # Errors
/// If the model does not fit.
pub fn check(folder: &Path, disk: &Disk) -> Result<()> {
    let existing = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let Some(free_bytes) = free_bytes(existing) else {
        return Ok(());
    };
    let free_bytes = free_bytes.saturating_add(bytes_below(folder));
    let total_bytes = disk.total();
    // Records grow with the training, and few trainings of very many epochs run through all of them.
    let needed_bytes = Disk { checkpoints: 0, records: 0, ..*disk }.total();
    let free = size(free_bytes);
    if free_bytes < needed_bytes {
        bail!(WithHint::new(
            format!("the disk of {} has {free} free, the run needs {}", folder.display(), size(needed_bytes)),
            "free some space, or put the run on another disk"
        ));
    }
    if free_bytes < total_bytes {
        note(&format!(
            "warning: the disk of {} has {free} free: enough for the model, but with checkpoints and records the run takes up \
             to {}; a checkpoint that does not fit replaces an older one or is not saved",
            folder.display(),
            size(total_bytes)
        ));
    }
    Ok(())
}

#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let disk = rustix::fs::statvfs(path).ok()?;
    // File systems without blocks of their own, such as /proc, report 0 of 0.
    (disk.f_blocks > 0).then(|| disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}

/// The bytes of all files below a folder. Links are not followed.
pub fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        Some(if metadata.is_dir() { bytes_below(&entry.path()) } else { metadata.len() })
    });
    bytes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_beyond_any_disk_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("not/yet/there");
        let disk = |model| Disk { model, ..Disk::default() };
        check(&run, &disk(4)).unwrap();
        // Records alone refuse nothing: a training of very many epochs may end early.
        check(&run, &Disk { records: u64::MAX, ..disk(4) }).unwrap();
        let message = check(&run, &disk(u64::MAX)).unwrap_err().to_string();
        assert!(message.contains("not/yet/there") && message.contains(" free, the run needs 18.4 EB"), "{message}");
    }

    #[test]
    fn files_of_all_depths_count() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        std::fs::write(folder.path().join("a/b/c"), [0; 10]).unwrap();
        std::fs::write(folder.path().join("d"), [0; 5]).unwrap();
        assert_eq!(bytes_below(folder.path()), 15);
        assert_eq!(bytes_below(&folder.path().join("none")), 0);
    }
}
