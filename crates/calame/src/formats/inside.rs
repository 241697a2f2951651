//! Resolves file names that another file contains; the files must be in the same folder.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::CheckpointError;

/// The path of the file `name` in `folder`; `named_by` is the file that contains the name. Links into the blob store of
/// the model hub's cache are allowed.
///
/// # Errors
/// If the name or a link leads outside the folder.
pub(super) fn file_inside(folder: &Path, name: &str, named_by: &Path) -> Result<PathBuf, CheckpointError> {
    let plain = matches!(Path::new(name).components().collect::<Vec<_>>()[..], [Component::Normal(_)]);
    let outside = |found: &Path| CheckpointError::Outside {
        path: named_by.to_owned(),
        name: name.to_owned(),
        found: found.to_owned(),
    };
    if !plain {
        return Err(outside(&folder.join(name)));
    }
    let path = folder.join(name);
    let Ok(target) = fs::canonicalize(&path) else { return Ok(path) };
    let home = fs::canonicalize(folder).map_err(CheckpointError::io("read", folder))?;
    // models--OWNER--NAME/snapshots/REVISION/FILE links to models--OWNER--NAME/blobs/HASH.
    let blobs =
        home.parent().filter(|p| p.ends_with("snapshots")).and_then(Path::parent).map(|repo| repo.join("blobs"));
    let allowed = target.parent() == Some(&home) || blobs.is_some_and(|blobs| target.parent() == Some(&blobs));
    if allowed { Ok(path) } else { Err(outside(&target)) }
}
