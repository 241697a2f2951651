//! Which files a run writes besides its metrics: section `[log]`.

use serde::{Deserialize, Serialize};

/// Section `[log]`: files with which other programs can follow a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Whether TensorBoard event files are written into `tensorboard/`.
    pub tensorboard: bool,
}

impl Default for LogConfig {
    /// Event files are written; a step costs one write of a few hundred bytes.
    fn default() -> LogConfig {
        LogConfig { tensorboard: true }
    }
}
