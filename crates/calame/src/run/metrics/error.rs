//! Errors of metrics files.

use std::path::PathBuf;

use crate::files::FileError;

/// Maximum length of a line in bytes; a sample of 100,000 tokens is far below it.
pub(super) const MAX_LINE_BYTES: u64 = 4 << 20;

/// Why `metrics.jsonl` cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The file could not be opened, read, written or renamed.
    #[error("{}: cannot {} it: {}", .0.path.display(), .0.action, .0.source)]
    File(#[from] FileError),
    /// A new run would overwrite the metrics of another one.
    #[error(
        "{}: expected no file for a new run, found one; resume that run or choose another folder",
        path.display()
    )]
    Exists {
        /// Path of the existing file.
        path: PathBuf,
    },
    /// A line other than a truncated last one is not a record.
    #[error(
        "{}:{line}: expected a record of metrics, found another line ({source}); remove the line to read the rest",
        path.display()
    )]
    BadLine {
        /// Path of the file.
        path: PathBuf,
        /// Line number, from 1.
        line: u64,
        /// The error of the JSON parser.
        source: serde_json::Error,
    },
    /// A line that is longer than any record.
    #[error(
        "{}:{line}: expected a line of at most {MAX_LINE_BYTES} bytes, found a longer one; this is not a metrics file",
        path.display()
    )]
    LongLine {
        /// Path of the file.
        path: PathBuf,
        /// Line number, from 1.
        line: u64,
    },
}
