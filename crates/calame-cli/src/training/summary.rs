//! The state of a run and its figures, read from its folder.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Result;
use calame::run::RunFolder;
use calame::run::metrics::{self, Record};
use calame::train::{RunConfig, latest_checkpoint};

use super::peaks::median;
use crate::ui::verbosity;

/// Whether a run is finished, and if not, whether it can be resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its model is saved.
    Finished,
    /// A program is training it.
    Running,
    /// It has a checkpoint from which it can be resumed.
    Stopped,
    /// It ended before its first checkpoint was saved.
    BrokenOff,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Finished => "finished",
            State::Running => "running",
            State::Stopped => "stopped",
            State::BrokenOff => "broken off",
        }
    }
}

/// The settings, records and state of a run.
pub struct Summary {
    pub path: PathBuf,
    pub config: RunConfig,
    pub records: Vec<Record>,
    pub state: State,
}

impl Summary {
    /// Reads a run.
    ///
    /// # Errors
    /// If the folder holds no run, or its files cannot be read.
    pub fn read(path: &Path) -> Result<Summary> {
        verbosity::opened(path);
        let (folder, config) = RunFolder::open(path)?;
        let metrics = folder.metrics();
        let records = if metrics.exists() { metrics::read(&metrics)? } else { Vec::new() };
        let state = if folder.is_in_use() {
            State::Running
        } else if records.iter().any(|r| matches!(r, Record::End { .. })) && folder.model().exists() {
            State::Finished
        } else if latest_checkpoint(&folder.checkpoints())?.is_some() {
            State::Stopped
        } else {
            State::BrokenOff
        };
        Ok(Summary { path: path.to_owned(), config, records, state })
    }

    /// The number of optimizer steps that its metrics record.
    pub fn n_steps(&self) -> u64 {
        self.records.iter().filter(|r| matches!(r, Record::Step { .. })).map(|r| r.step() + 1).max().unwrap_or(0)
    }

    /// The validation losses, each with its step.
    fn validation(&self) -> impl Iterator<Item = (f32, u64)> {
        self.records.iter().filter_map(|record| match *record {
            Record::Evaluation { val_loss, step, .. } => Some((val_loss, step)),
            _ => None,
        })
    }

    /// The lowest finite validation loss and its step.
    pub fn best(&self) -> Option<(f32, u64)> {
        self.validation().filter(|(loss, _)| loss.is_finite()).min_by(|a, b| a.0.total_cmp(&b.0))
    }

    /// The last validation loss and its step.
    pub fn last(&self) -> Option<(f32, u64)> {
        self.validation().last()
    }

    /// The median speed of its steps, or none if it has no step.
    pub fn tokens_per_second(&self) -> Option<f64> {
        let speeds: Vec<f64> = self
            .records
            .iter()
            .filter_map(|record| match record {
                Record::Step { tokens_per_second, .. } => Some(*tokens_per_second),
                _ => None,
            })
            .collect();
        (!speeds.is_empty()).then(|| median(speeds))
    }

    /// The last part of the folder's path.
    pub fn name(&self) -> String {
        self.path
            .file_name()
            .map_or_else(|| self.path.display().to_string(), |name| name.to_string_lossy().into_owned())
    }

    /// When its metrics last grew or, without metrics, when its settings were written.
    pub fn changed(&self) -> Option<SystemTime> {
        let time = |name| self.path.join(name).metadata().and_then(|m| m.modified()).ok();
        time("metrics.jsonl").or_else(|| time("config.toml"))
    }
}
