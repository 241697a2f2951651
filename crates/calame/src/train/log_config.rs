//! What a run writes beside its metrics: section `[log]`.

use serde::{Deserialize, Serialize};

/// What a run writes for other programs to watch it by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Whether TensorBoard's event files are written into `tensorboard/`.
    pub tensorboard: bool,
}

impl Default for LogConfig {
    /// Event files are written: a step costs one write of some hundred bytes.
    fn default() -> LogConfig {
        LogConfig { tensorboard: true }
    }
}
