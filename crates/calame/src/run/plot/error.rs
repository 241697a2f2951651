//! Errors from drawing and writing figures.

use std::path::PathBuf;

/// Why a figure cannot be drawn or written.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// The records contain no evaluation, or there are no runs to compare.
    #[error(
        "expected at least one evaluation to plot, found none among {n_records} records; \
         the run was stopped before its first one"
    )]
    NoEvaluation {
        /// Number of records read.
        n_records: usize,
    },
    /// All losses are NaN or infinite.
    #[error("expected a finite loss to plot, found none in {n_evaluations} evaluations; the run has diverged")]
    NoFiniteLoss {
        /// Number of evaluations found.
        n_evaluations: usize,
    },
    /// The file's extension is not a supported format.
    #[error("{}: the extension of a figure must be .svg, .png or .pdf", path.display())]
    Format {
        /// Path of the requested file.
        path: PathBuf,
    },
    /// The file could not be written. An existing file is unchanged.
    #[error("{}: cannot write it: {source}", path.display())]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The figure could not be laid out.
    #[error("cannot draw the loss curves: {reason}")]
    Drawing {
        /// The error message of the plotting library.
        reason: String,
    },
    /// The PNG image could not be encoded.
    #[error("cannot encode the figure as PNG: {reason}")]
    Png {
        /// The error message of the encoder.
        reason: String,
    },
}
