//! What an input is: a file, a folder, a name or a pattern; and the files of folders and patterns.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::corpus_error::CorpusError;
use super::names::{self, BUILTIN, NamedText};
use super::skipped::{SkipReason, SkippedFiles};

/// The kind of an input.
pub(super) enum Input {
    File,
    Folder,
    Builtin,
    Named(&'static NamedText),
    Glob,
}

impl Input {
    /// The kind of `input`. An existing path takes precedence over a name, and a name over a pattern.
    pub(super) fn of(input: &str) -> Result<Self, CorpusError> {
        let path = Path::new(input);
        match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => return Ok(Self::Folder),
            Ok(_) => return Ok(Self::File),
            // A pattern whose parent "folder" is a file, or that is too long for a path, is still a pattern.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(unreadable(path)(error));
            }
            Err(_) => {}
        }
        if input == BUILTIN {
            Ok(Self::Builtin)
        } else if let Some(text) = names::find(input) {
            Ok(Self::Named(text))
        } else if input.contains(['*', '?', '[']) {
            Ok(Self::Glob)
        } else {
            Err(CorpusError::Missing { input: input.to_owned() })
        }
    }
}

pub(super) fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> CorpusError + use<> {
    let path = path.to_owned();
    move |reason| CorpusError::Unreadable { path, reason }
}

/// The files below `folder` that `is_wanted` accepts, sorted by path. Others are added to `skipped`, except below
/// hidden folders; so are wanted ones that the system does not show.
pub(super) fn files_below(
    folder: &Path,
    is_wanted: impl Fn(&Path) -> bool,
    skipped: &mut SkippedFiles,
) -> Result<Vec<PathBuf>, CorpusError> {
    let mut files = Vec::new();
    // Links to folders are not followed, so that a cycle of links cannot loop; a link to a file is accepted below.
    for entry in WalkDir::new(folder).sort_by_file_name() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if error.depth() == 0 => return Err(unreadable(folder)(error.into())),
            Err(error) => {
                let path = error.path().unwrap_or(folder).to_owned();
                skipped.add(&path, SkipReason::Unreadable, Some(io::Error::from(error).to_string()));
                continue;
            }
        };
        let path = entry.path();
        if entry.file_type().is_dir() {
            continue;
        }
        match fs::metadata(path) {
            Ok(meta) if !meta.is_file() => {}
            _ if !is_wanted(path) => {
                let below = path.strip_prefix(folder).unwrap_or(path);
                if !below.components().any(|part| part.as_os_str().to_string_lossy().starts_with('.')) {
                    skipped.add(path, SkipReason::OtherEnding, None);
                }
            }
            Ok(_) => files.push(entry.into_path()),
            Err(error) => skipped.add(path, SkipReason::Unreadable, Some(error.to_string())),
        }
    }
    files.sort();
    Ok(files)
}

/// The files that match `pattern`, whatever their endings, sorted by path.
pub(super) fn files_matching(pattern: &str, skipped: &mut SkippedFiles) -> Result<Vec<PathBuf>, CorpusError> {
    let matches = glob::glob(pattern).map_err(|error| CorpusError::BadPattern {
        pattern: pattern.to_owned(),
        reason: error.msg,
        at: error.pos,
    })?;
    let mut files = Vec::new();
    for path in matches {
        match path {
            // Folders are excluded: `**/*` matches both a folder and the files in it.
            Ok(path) if path.is_dir() => {}
            Ok(path) => files.push(path),
            Err(error) => skipped.add(error.path(), SkipReason::Unreadable, Some(error.error().to_string())),
        }
    }
    files.sort();
    Ok(files)
}
