//! Why a figure cannot be drawn or written.

use std::path::PathBuf;

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// The records hold no evaluation.
    #[error(
        "expected at least one evaluation to plot, found none among {n_records} records; \
         the run was stopped before its first one"
    )]
    NoEvaluation {
        /// Records looked at.
        n_records: usize,
    },
    /// All losses are NaN or infinite.
    #[error("expected a finite loss to plot, found none in {n_evaluations} evaluations; the run has diverged")]
    NoFiniteLoss {
        /// Evaluations looked at.
        n_evaluations: usize,
    },
    /// A figure of another kind was asked for.
    #[error("{}: a figure ends in .svg, .png or .pdf", path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// A file could not be written; the one that existed before is intact.
    #[error("{}: cannot write it: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The figure could not be laid out.
    #[error("the loss plot: cannot draw it: {reason}")]
    Drawing {
        /// What the plotting library said.
        reason: String,
    },
    /// The picture could not be encoded.
    #[error("loss-plot.png: cannot encode it: {reason}")]
    Png {
        /// What the encoder said.
        reason: String,
    },
}
