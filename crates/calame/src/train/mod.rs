//! Training: the loop, its optimizer, what it measures and where it leaves things.
//!
//! [`config`] (a run's file), [`Trainer`] (the loop), [`AdamW`], [`metrics`], [`plot`], [`RunFolder`].

pub mod config;
mod evaluation;
pub mod metrics;
mod optimizer;
pub mod plot;
mod run_folder;
mod trainer;

pub use config::{DeviceConfig, Rng, RunConfig, SampleConfig, TokenizerConfig, TrainConfig, TrainConfigError};
pub use evaluation::{TextLoss, text_loss};
pub use optimizer::AdamW;
pub use run_folder::{RunFolder, RunFolderError};
pub use trainer::{EvaluationReport, Observer, Outcome, Splits, StepReport, Trainer};
