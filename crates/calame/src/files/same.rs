//! Whether an open file is the one that a path names.

use std::fs::File;
use std::path::Path;

/// Whether `path` still names the open file: it may have been removed or replaced since it was opened. True where the
/// system has no numbers for files.
#[cfg(unix)]
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let numbers = |found: &std::fs::Metadata| (found.dev(), found.ino());
    let (open, named) = (file.metadata(), path.symlink_metadata());
    matches!((open, named), (Ok(open), Ok(named)) if numbers(&open) == numbers(&named))
}

#[cfg(not(unix))]
pub(super) fn is_at(_: &File, _: &Path) -> bool {
    true
}
