//! The run folder: settings, metrics, event files, samples, plots, checkpoints and the model.
//!
//! A [`Recorder`] writes the [`RunFolder`] during training and notifies a [`RunListener`] of what it writes.
//! [`metrics`] and [`events`] (for TensorBoard) define the logs, [`plot`] draws the loss curves, and [`memorisation`]
//! measures how much of a sample is copied from the training text.

mod ending;
pub mod events;
mod folder;
mod listener;
pub mod memorisation;
pub mod metrics;
mod overfitting;
mod own;
pub mod plot;
mod recorder;

pub use folder::{RunFolder, RunFolderError, RunLock};
pub use listener::{RunListener, Warnings};
pub use overfitting::{Overfitting, overfitting};
pub use recorder::{Recorder, RecorderError};
