//! What can go wrong with a metrics file.

use std::path::PathBuf;

use crate::files::FileError;

/// The longest line that is read, in bytes; a sample of a hundred thousand tokens is far below it.
pub(super) const MAX_LINE_BYTES: u64 = 4 << 20;

/// What can go wrong with `metrics.jsonl`.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The file could not be opened, read, written or renamed.
    #[error("{}: cannot {} it: {}", .0.path.display(), .0.action, .0.source)]
    File(#[from] FileError),
    /// A new run would write over another's metrics.
    #[error(
        "{}: expected no file for a new run, found one; resume that run or choose another folder",
        path.display()
    )]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A line that is not the torn last one is not a record.
    #[error(
        "{}:{line}: expected a record of metrics, found a line that is none ({source}); remove the line to read the rest",
        path.display()
    )]
    BadLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What the JSON reader said.
        source: serde_json::Error,
    },
    /// A line longer than any record.
    #[error(
        "{}:{line}: expected a line of at most {MAX_LINE_BYTES} bytes, found a longer one; this is not a metrics file",
        path.display()
    )]
    LongLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
    },
}
