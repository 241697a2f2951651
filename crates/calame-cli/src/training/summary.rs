//! What a run's folder says about the run.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Result;
use calame::checkpoint::latest_checkpoint;
use calame::train::metrics::{self, Record};
use calame::train::{RunConfig, RunFolder};

use super::peaks::median;

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its model is saved.
    Finished,
    /// A program is training it.
    Running,
    /// It has a checkpoint to go on from.
    Stopped,
    /// It was ended before it could save anything.
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

/// What a run's folder tells of it.
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
    /// If it is none, or its files cannot be read.
    pub fn read(path: &Path) -> Result<Summary> {
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

    /// Steps done.
    pub fn n_steps(&self) -> u64 {
        self.records.iter().filter(|r| matches!(r, Record::Step { .. })).map(|r| r.step() + 1).max().unwrap_or(0)
    }

    /// Validation losses with their steps.
    fn validation(&self) -> impl Iterator<Item = (f32, u64)> {
        self.records.iter().filter_map(|record| match *record {
            Record::Evaluation { val_loss, step, .. } => Some((val_loss, step)),
            _ => None,
        })
    }

    /// The best validation loss and its step.
    pub fn best(&self) -> Option<(f32, u64)> {
        self.validation().filter(|(loss, _)| loss.is_finite()).min_by(|a, b| a.0.total_cmp(&b.0))
    }

    /// The last validation loss and its step.
    pub fn last(&self) -> Option<(f32, u64)> {
        self.validation().last()
    }

    /// The median speed of its steps.
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

    /// The folder's own name.
    pub fn name(&self) -> String {
        self.path
            .file_name()
            .map_or_else(|| self.path.display().to_string(), |name| name.to_string_lossy().into_owned())
    }

    /// When its metrics last grew, else when its settings were written.
    pub fn changed(&self) -> Option<SystemTime> {
        let time = |name| self.path.join(name).metadata().and_then(|m| m.modified()).ok();
        time("metrics.jsonl").or_else(|| time("config.toml"))
    }
}
