//! Training: the loop, its optimizer, what it measures and where it leaves things.
//!
//! [`config`] (a run's file), [`Trainer`] (the loop), [`AdamW`], [`Checkpoints`], [`plan`] (what a run will take), [`metrics`], [`plot`],
//! [`tensorboard`], [`memorisation`], [`RunFolder`].

mod checkpoints;
pub mod config;
mod early_stopping;
mod evaluation;
mod gradient_plan;
mod guard;
mod log_config;
pub mod memorisation;
pub mod metrics;
mod objective;
mod optimizer;
pub mod plan;
pub mod plot;
mod randomness;
mod recipe;
mod report;
mod run_folder;
mod schedule;
mod splits;
mod step;
pub mod tensorboard;
mod trainer;

pub use checkpoints::{CheckpointConfig, Checkpoints, Savable};
pub use config::{
    Decayed, DeviceConfig, LossAverage, Rng, RunConfig, SampleConfig, TokenizerConfig, TrainConfig, TrainConfigError,
};
pub use early_stopping::EarlyStoppingConfig;
pub use evaluation::{TextLoss, text_loss};
pub use gradient_plan::GradientPlan;
pub use guard::{GuardConfig, Remedy, StepFault};
pub use log_config::LogConfig;
pub use objective::{HeadPass, NextToken, Objective, PassBuffers, PassSizes};
pub use optimizer::{AdamW, Update};
pub use randomness::{Randomness, StateMismatch};
pub use recipe::{Recipe, UnknownRecipe};
pub use report::{EvaluationReport, Observer, Outcome, StepReport};
pub use run_folder::{RunFolder, RunFolderError, RunLock};
pub use schedule::{Decay, ScheduleConfig};
pub use splits::Splits;
pub use trainer::Trainer;
