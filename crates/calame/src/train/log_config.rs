//! Section `[log]`: which files a run writes in addition to its metrics.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Section `[log]`: log files for other programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Whether to write TensorBoard event files to `tensorboard/`.
    pub tensorboard: bool,
}

impl Default for LogConfig {
    /// Enables event files: each step costs one write of a few hundred bytes.
    fn default() -> LogConfig {
        LogConfig { tensorboard: true }
    }
}
