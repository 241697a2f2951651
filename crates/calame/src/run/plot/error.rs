//! Errors of drawing and writing figures.

use std::path::PathBuf;

/// Why a figure cannot be drawn or written.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// The records contain no evaluation.
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
    #[error("{}: a figure ends in .svg, .png or .pdf", path.display())]
    Format {
        /// Path of the requested file.
        path: PathBuf,
    },
    /// A file could not be written; an existing one is intact.
    #[error("{}: cannot write it: {source}", path.display())]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// The error that the system returned.
        source: std::io::Error,
    },
    /// The figure could not be laid out.
    #[error("the loss plot: cannot draw it: {reason}")]
    Drawing {
        /// The error message of the plotting library.
        reason: String,
    },
    /// The PNG image could not be encoded.
    #[error("loss-plot.png: cannot encode it: {reason}")]
    Png {
        /// The error message of the encoder.
        reason: String,
    },
}
