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

/// The losses of an evaluation, and its step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Validation {
    pub step: u64,
    pub loss: f32,
    /// The loss in bits per byte of text, if the run has recorded it.
    pub bits_per_byte: Option<f32>,
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

/// The step in the name of a checkpoint.
fn steps_of(checkpoint: &Path) -> Option<u64> {
    checkpoint.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()
}

/// The settings, records and state of a run.
pub struct Summary {
    pub path: PathBuf,
    pub config: RunConfig,
    pub records: Vec<Record>,
    pub state: State,
    /// The number of steps after which the newest checkpoint was written.
    pub n_steps_saved: Option<u64>,
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
        let checkpoint = latest_checkpoint(&folder.checkpoints())?;
        let n_steps_saved = checkpoint.as_deref().and_then(steps_of);
        let state = if folder.is_in_use() {
            State::Running
        } else if records.iter().any(|r| matches!(r, Record::End { .. })) && folder.model().exists() {
            State::Finished
        } else if checkpoint.is_some() {
            State::Stopped
        } else {
            State::BrokenOff
        };
        Ok(Summary { path: path.to_owned(), config, records, state, n_steps_saved })
    }

    /// The number of optimizer steps that its metrics record, saved or not.
    fn n_steps_recorded(&self) -> u64 {
        self.records.iter().filter(|r| matches!(r, Record::Step { .. })).map(|r| r.step() + 1).max().unwrap_or(0)
    }

    /// The number of optimizer steps that it has made. Steps that were lost because the program ended without saving
    /// them do not count.
    pub fn n_steps(&self) -> u64 {
        let recorded = self.n_steps_recorded();
        match self.state {
            State::Finished | State::Running => recorded,
            State::Stopped => self.n_steps_saved.map_or(recorded, |saved| saved.min(recorded)),
            State::BrokenOff => 0,
        }
    }

    /// The number of steps that are recorded but were not saved, so that they will be repeated.
    pub fn n_steps_lost(&self) -> u64 {
        self.n_steps_recorded() - self.n_steps()
    }

    /// The evaluations of the steps that count.
    fn validation(&self) -> impl Iterator<Item = Validation> {
        let n_steps = self.n_steps();
        self.records.iter().filter_map(move |record| match *record {
            Record::Evaluation { val_loss, val_bits_per_byte, step, .. } if step < n_steps => {
                Some(Validation { step, loss: val_loss, bits_per_byte: val_bits_per_byte })
            }
            _ => None,
        })
    }

    /// The evaluation with the lowest finite validation loss.
    pub fn best(&self) -> Option<Validation> {
        self.validation().filter(|v| v.loss.is_finite()).min_by(|a, b| a.loss.total_cmp(&b.loss))
    }

    /// The last evaluation of all.
    pub fn last(&self) -> Option<Validation> {
        self.validation().last()
    }

    /// Whether its training can be continued.
    pub fn is_resumable(&self) -> bool {
        self.state != State::Running && self.n_steps_saved.is_some()
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
