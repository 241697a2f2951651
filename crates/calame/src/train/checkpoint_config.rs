//! When a run writes checkpoints and how many it keeps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config_error::TrainConfigError;

/// Section `[checkpoint]`: the training states from which a stopped or killed run resumes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Steps between checkpoints; 0 disables this rule.
    pub every_steps: u64,
    /// Minutes between checkpoints; 0 disables this rule.
    pub every_minutes: f64,
    /// Whether a checkpoint is written at the end of an epoch if the last one is more than half of `every_minutes` old.
    pub every_epoch: bool,
    /// Number of checkpoints to keep, the newest ones.
    pub keep: usize,
    /// Whether the state is copied in memory and written in the background. This takes as much additional memory as
    /// weights and moments, but a checkpoint then delays the training only for the time of the copy.
    pub copy: bool,
    /// Whether a finished run keeps its last state, so that more epochs can be added to it.
    pub at_end: bool,
}

impl Default for CheckpointConfig {
    fn default() -> CheckpointConfig {
        CheckpointConfig { every_steps: 0, every_minutes: 15.0, every_epoch: true, keep: 2, copy: false, at_end: true }
    }
}

impl CheckpointConfig {
    /// Checks that the values are within their ranges.
    ///
    /// # Errors
    /// Returns the first invalid value and the accepted ones.
    pub fn validate(&self) -> Result<(), TrainConfigError> {
        if !(self.every_minutes >= 0.0 && self.every_minutes <= 1e6) {
            let (key, value) = ("checkpoint.every_minutes", self.every_minutes.to_string());
            return Err(TrainConfigError { key, value, expected: "0 for no checkpoints by the clock, or minutes" });
        }
        if self.keep == 0 {
            let (key, value) = ("checkpoint.keep", self.keep.to_string());
            return Err(TrainConfigError { key, value, expected: "at least 1; 2 keeps the previous one too" });
        }
        Ok(())
    }
}
