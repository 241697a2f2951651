//! What a run leaves in its folder: settings, metrics, events, samples, plots, checkpoints, the model.
//!
//! [`RunFolder`] is the folder, [`Recorder`] writes it during a training, [`RunListener`] follows the recorder. [`metrics`],
//! [`events`] (TensorBoard's), [`plot`] and [`memorisation`] (what a sample copies from the training text) are its parts.

pub mod events;
mod folder;
mod listener;
pub mod memorisation;
pub mod metrics;
pub mod plot;
mod recorder;

pub use folder::{RunFolder, RunFolderError, RunLock};
pub use listener::{RunListener, Warnings};
pub use recorder::{Recorder, RecorderError};
