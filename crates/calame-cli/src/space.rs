//! Whether the disk has room for what a run will write: better known before the training than after it.

use std::path::Path;

use anyhow::{Result, bail};

use crate::output::{WithHint, note};

/// Metrics, samples, tokenizer and plot, in bytes, generously.
const OTHER_FILES_BYTES: u64 = 16 << 20;

/// Refuses a run whose model will not fit on the disk of `folder` (which need not exist yet), and warns where there is
/// room for the model, but not for the state of a training that is stopped: weights and two moments.
///
/// What a run that is to be replaced takes up is counted as free. Where the system does not tell, nothing is refused.
pub fn check(folder: &Path, n_parameters: usize) -> Result<()> {
    let existing = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let Some(free_bytes) = free_bytes(existing) else {
        return Ok(());
    };
    let free_bytes = free_bytes.saturating_add(bytes_below(folder));
    let model_bytes = (n_parameters as u64).saturating_mul(4);
    let needed_bytes = model_bytes.saturating_add(OTHER_FILES_BYTES);
    let stopped_bytes = model_bytes.saturating_mul(3).saturating_add(OTHER_FILES_BYTES);
    let free = free_bytes / 1_000_000;
    if free_bytes < needed_bytes {
        bail!(WithHint::new(
            format!(
                "the disk of {} has {free} MB free, the run needs {} MB",
                folder.display(),
                megabytes(needed_bytes)
            ),
            "free some space, or choose another folder with --run"
        ));
    }
    if free_bytes < stopped_bytes {
        note(&format!(
            "warning: the disk of {} has {free} MB free: enough for the model, but a stop by Ctrl-C needs {} MB to save what a \
             resume goes on from",
            folder.display(),
            megabytes(stopped_bytes)
        ));
    }
    Ok(())
}

fn megabytes(bytes: u64) -> u64 {
    bytes.div_ceil(1_000_000)
}

#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let disk = rustix::fs::statvfs(path).ok()?;
    // File systems without blocks of their own, such as /proc, say 0 of 0.
    (disk.f_blocks > 0).then(|| disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}

/// Bytes of all files below a folder; links are not followed.
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
        check(&run, 1).unwrap();
        let message = check(&run, usize::MAX).unwrap_err().to_string();
        assert!(message.contains("not/yet/there") && message.contains("MB free"), "{message}");
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
