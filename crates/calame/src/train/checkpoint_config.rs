//! When a run's checkpoints are written, and how many are kept.

use serde::{Deserialize, Serialize};

use super::config_error::TrainConfigError;

/// Section `[checkpoint]`: what a stopped or killed run goes on from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Steps from one to the next; 0 counts no steps.
    pub every_steps: u64,
    /// Minutes from one to the next; 0 looks at no clock.
    pub every_minutes: f64,
    /// Whether one is written at the end of an epoch, if the last is more than half of `every_minutes` old.
    pub every_epoch: bool,
    /// The newest ones that are kept.
    pub keep: usize,
    /// Whether the state is copied in memory and written while the training goes on: it costs as much memory again as
    /// weights and moments take, and a checkpoint the time of the copy.
    pub copy: bool,
}

impl Default for CheckpointConfig {
    fn default() -> CheckpointConfig {
        CheckpointConfig { every_steps: 0, every_minutes: 15.0, every_epoch: true, keep: 2, copy: false }
    }
}

impl CheckpointConfig {
    /// Whether a training can have these values.
    ///
    /// # Errors
    /// The first that it cannot, with what it may be.
    pub fn validate(&self) -> Result<(), TrainConfigError> {
        if !(self.every_minutes >= 0.0 && self.every_minutes <= 1e6) {
            let (key, value) = ("checkpoint.every_minutes", self.every_minutes.to_string());
            return Err(TrainConfigError { key, value, expected: "0 for no checkpoints by the clock, or minutes" });
        }
        if self.keep == 0 {
            let (key, value) = ("checkpoint.keep", self.keep.to_string());
            return Err(TrainConfigError { key, value, expected: "at least 1; 2 keep the one before it too" });
        }
        Ok(())
    }
}
