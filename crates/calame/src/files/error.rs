//! The error of every operation on files.

use std::io;
use std::path::{Path, PathBuf};

/// An operation on a file or folder that the system refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", .path.display())]
pub struct FileError {
    /// The operation, as a verb: `open`, `read`, `write`, `sync`, `rename`, …
    pub action: &'static str,
    /// The file or folder it was applied to.
    pub path: PathBuf,
    /// The error that the system returned.
    pub source: io::Error,
}

impl FileError {
    /// A conversion for `map_err`: adds the action and the path to the system's reason.
    pub fn new(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError + use<> {
        let path = path.to_owned();
        move |source| FileError { action, path, source }
    }

    /// What the user can do about a full disk or a missing permission; None for other reasons.
    pub fn remedy(&self) -> Option<&'static str> {
        match self.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Some("the disk is full: free some space or choose another folder; existing files are untouched")
            }
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                Some("no permission to read or write there: choose another folder")
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_action_path_and_reason() {
        let error = |kind: io::ErrorKind| FileError::new("write", Path::new("run/model"))(kind.into());
        let full = error(io::ErrorKind::StorageFull);
        assert_eq!(full.to_string(), format!("cannot write run/model: {}", full.source));
        assert!(full.remedy().unwrap().contains("disk is full"));
        assert!(error(io::ErrorKind::PermissionDenied).remedy().unwrap().contains("permission"));
        assert_eq!(error(io::ErrorKind::NotFound).remedy(), None);
    }
}
