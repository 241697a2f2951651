//! Training: the training loop, the optimizer and the checkpoints.
//!
//! [`Trainer`] runs the training loop: it minimises an [`Objective`] with [`AdamW`] and reports to an [`Observer`].
//! [`config`] is the configuration of a run, and [`Checkpoints`] saves and restores its state. [`run`](crate::run)
//! writes the run folder, and [`plan`](crate::plan) estimates the memory and time of a training before it starts.

mod changed_settings;
mod checkpoint_config;
mod checkpoints;
pub mod config;
mod config_error;
mod early_stopping;
mod evaluation;
mod gradient_plan;
mod guard;
mod log_config;
mod objective;
mod off;
mod optimizer;
mod participants;
mod progress;
mod randomness;
mod recipe;
mod recipe_settings;
mod report;
mod schedule;
mod schema;
mod state;
mod step;
mod trainer;
mod validate;

pub use changed_settings::ChangedSetting;
pub use checkpoint_config::CheckpointConfig;
pub(crate) use checkpoints::is_checkpoint_file_name;
pub use checkpoints::{
    Checkpoints, Savable, checkpoint_progress, clear_partial, free_checkpoint, is_disk_full, latest_checkpoint,
    load_training, save_best, save_training, sound_checkpoint, system_error, take_best, verify_checkpoint,
};
pub use config::{Decayed, LossAverage, Rng, RunConfig, SampleConfig, TrainConfig};
pub use config_error::TrainConfigError;
pub use early_stopping::EarlyStoppingConfig;
pub use evaluation::{TOKENS_AT_ONCE, TextLoss, bits_per_byte, text_loss};
pub use gradient_plan::GradientPlan;
pub use guard::{GuardConfig, Remedy, StepFault};
pub use log_config::LogConfig;
pub use objective::{HeadPass, NextToken, Objective, PassBuffers, PassSizes};
pub use optimizer::{AdamW, Update};
pub use participants::{Participants, Solo};
pub use progress::{Best, Progress, Usual};
pub use randomness::{Randomness, StateMismatch};
pub use recipe::{Recipe, UnknownRecipe};
pub use report::{EvaluationReport, Observer, Outcome, StepReport};
pub use schedule::{Decay, ScheduleConfig};
pub use state::TrainingState;
pub use trainer::Trainer;
pub use validate::RunConfigError;

pub use crate::data::Splits;
pub use crate::device::DeviceConfig;
pub use crate::tokenizer::TokenizerConfig;
