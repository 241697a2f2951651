//! A run that is ready to train.

use std::path::{Path, PathBuf};

use calame::model::Gpt;
use calame::run::{RunFolder, RunLock};
use calame::train::RunConfig;

use super::text::Prepared;

/// A run that is ready to train.
pub struct Ready {
    pub config: RunConfig,
    pub target: RunTarget,
    /// The lock of a new run, unless it is only planned.
    pub lock: Option<RunLock>,
    /// The model to train; if none, one with initial weights is made.
    pub gpt: Option<Gpt>,
    pub prepared: Prepared,
}

/// The run to train.
pub enum RunTarget {
    /// A new run, whose folder will be created at this path.
    New(PathBuf),
    /// A stopped or finished run, and the checkpoint from which it is resumed.
    Stopped(RunFolder, PathBuf),
}

impl RunTarget {
    /// The path of the run's folder.
    pub fn path(&self) -> &Path {
        match self {
            RunTarget::New(path) => path,
            RunTarget::Stopped(folder, _) => folder.path(),
        }
    }
}
