//! Training: the loop, its optimizer, what it measures and where it leaves things.
//!
//! [`config`] (a run's file), [`Trainer`] (the loop), [`AdamW`], [`plan`] (what a run will take), [`metrics`], [`plot`],
//! [`tensorboard`], [`memorisation`], [`RunFolder`].

pub mod config;
mod evaluation;
mod log_config;
pub mod memorisation;
pub mod metrics;
mod optimizer;
pub mod plan;
pub mod plot;
mod run_folder;
pub mod tensorboard;
mod trainer;

pub use config::{DeviceConfig, Rng, RunConfig, SampleConfig, TokenizerConfig, TrainConfig, TrainConfigError};
pub use evaluation::{TextLoss, text_loss};
pub use log_config::LogConfig;
pub use optimizer::AdamW;
pub use run_folder::{RunFolder, RunFolderError};
pub use trainer::{EvaluationReport, Observer, Outcome, Splits, StepReport, Trainer};
