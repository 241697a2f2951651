//! Training: the loop, its optimizer, what it measures and where it leaves things.
//!
//! [`config`] (a run's file), [`Trainer`] (the loop), [`AdamW`], [`Checkpoints`], [`plan`] (what a run will take), [`metrics`], [`plot`],
//! [`tensorboard`], [`memorisation`], [`RunFolder`].

mod checkpoint_config;
mod checkpoints;
pub mod config;
mod config_error;
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
mod recipe_settings;
mod recorder;
mod report;
mod run_folder;
mod run_listener;
mod schedule;
mod step;
pub mod tensorboard;
mod trainer;
mod validate;

pub use checkpoint_config::CheckpointConfig;
pub use checkpoints::{Checkpoints, Savable};
pub use config::{Decayed, LossAverage, Rng, RunConfig, SampleConfig, TrainConfig};
pub use config_error::TrainConfigError;
pub use early_stopping::EarlyStoppingConfig;
pub use evaluation::{TextLoss, text_loss};
pub use gradient_plan::GradientPlan;
pub use guard::{GuardConfig, Remedy, StepFault};
pub use log_config::LogConfig;
pub use objective::{HeadPass, NextToken, Objective, PassBuffers, PassSizes};
pub use optimizer::{AdamW, Update};
pub use randomness::{Randomness, StateMismatch};
pub use recipe::{Recipe, UnknownRecipe};
pub use recorder::{Recorder, RecorderError};
pub use report::{EvaluationReport, Observer, Outcome, StepReport};
pub use run_folder::{RunFolder, RunFolderError, RunLock};
pub use run_listener::{RunListener, Warnings};
pub use schedule::{Decay, ScheduleConfig};
pub use trainer::Trainer;
pub use validate::RunConfigError;

pub use crate::data::Splits;
pub use crate::device::DeviceConfig;
pub use crate::tokenizer::TokenizerConfig;
