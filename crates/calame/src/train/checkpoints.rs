//! When checkpoints are written, and by whom.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::report::Observer;
use super::{TrainConfigError, Trainer};
use crate::checkpoint::{CheckpointError, Progress, TrainingState, save_training, sound_checkpoint};
use crate::model::{Gpt, ModelConfig};
use crate::ops::{self, Device};

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

/// A run's checkpoints: when the next is due, and who writes it.
#[derive(Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    config: CheckpointConfig,
    /// Steps done at the last one, and when that was.
    last: Option<(u64, Duration)>,
    background: Option<Background>,
}

impl Checkpoints {
    /// Checkpoints in a run's folder `checkpoints`, which need not exist.
    pub fn new(folder: &Path, config: &CheckpointConfig) -> Checkpoints {
        Checkpoints { folder: folder.to_owned(), config: config.clone(), last: None, background: None }
    }

    /// Writes a checkpoint if one is due; what goes wrong is told to the observer, and what stood before stands.
    pub(super) fn save_if_due<O: Observer>(&mut self, trainer: &Trainer<'_>, observer: &mut O) {
        let (now, n_steps) = (observer.now(), trainer.progress().n_steps);
        let Some(last) = self.last else {
            // The state that the training began with needs no checkpoint; memory for copies is touched while it runs.
            self.last = Some((n_steps, now));
            if self.config.copy
                && let Err(error) = self.background(trainer)
            {
                observer.checkpoint_failed(&error);
            }
            return;
        };
        if !self.is_due(n_steps, n_steps.is_multiple_of(trainer.steps_per_epoch()), last, now) {
            return;
        }
        if let Err(error) = self.save(trainer) {
            observer.checkpoint_failed(&error);
        }
        // After a failure too: a disk that is full now will be after the next step.
        self.last = Some((n_steps, observer.now()));
    }

    fn is_due(&self, n_steps: u64, ends_epoch: bool, last: (u64, Duration), now: Duration) -> bool {
        let CheckpointConfig { every_steps, every_minutes, every_epoch, .. } = self.config;
        let (n_new, minutes) = (n_steps - n_steps.min(last.0), now.saturating_sub(last.1).as_secs_f64() / 60.0);
        n_new > 0
            && (every_steps > 0 && n_steps.is_multiple_of(every_steps)
                || every_minutes > 0.0 && minutes >= every_minutes
                || every_epoch && ends_epoch && minutes >= every_minutes / 2.0)
    }

    /// Writes a checkpoint now, or has it written while the training goes on.
    ///
    /// # Errors
    /// What the system says, of this one or of the one that was being written; those before it stand.
    pub fn save(&mut self, trainer: &Trainer<'_>) -> Result<(), CheckpointError> {
        let (state, config) = (trainer.state(), trainer.config.to_toml(&self.folder)?);
        if !self.config.copy {
            return save_training(&self.folder, state, &config, self.config.keep).map(|_| ());
        }
        self.background(trainer)?.save(trainer.dev, state, config)
    }

    /// The thread that writes copies, which is started when it is first wanted.
    fn background(&mut self, trainer: &Trainer<'_>) -> Result<&mut Background, CheckpointError> {
        Ok(match &mut self.background {
            Some(background) => background,
            none => none.insert(Background::start(&self.folder, &trainer.gpt().config, self.config.keep)?),
        })
    }

    /// Waits until the one that is being written is complete.
    ///
    /// # Errors
    /// What the system said; those before it stand.
    pub fn wait(&mut self) -> Result<(), CheckpointError> {
        self.background.as_mut().map_or(Ok(()), Background::wait)
    }

    /// The newest one that is whole; None where there is none.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn newest(&mut self) -> Result<Option<PathBuf>, CheckpointError> {
        self.wait()?;
        Ok(sound_checkpoint(&self.folder)?.0)
    }
}

/// A second copy of a training's state.
#[derive(Debug)]
struct Snapshot {
    weights: Gpt,
    m: Gpt,
    v: Gpt,
    progress: Progress,
    config: String,
}

impl Snapshot {
    /// Room for a state, every page of which the system has handed out.
    fn touched(model: &ModelConfig) -> Snapshot {
        let room = || {
            let mut tree = Gpt::zeros(model);
            // Zeros that are written, where those of a fresh buffer are only promised.
            tree.tensors_mut().for_each(|(_, tensor)| std::hint::black_box(tensor.as_mut_slice()).fill(0.0));
            tree
        };
        Snapshot { weights: room(), m: room(), v: room(), progress: Progress::default(), config: String::new() }
    }
}

/// A thread that writes copies.
#[derive(Debug)]
struct Background {
    /// Absent while it is being written.
    copy: Option<Box<Snapshot>>,
    /// Absent once the thread is to end.
    to_write: Option<SyncSender<Box<Snapshot>>>,
    written: Receiver<(Box<Snapshot>, Result<(), CheckpointError>)>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    fn start(folder: &Path, model: &ModelConfig, n_kept: usize) -> Result<Background, CheckpointError> {
        let (to_write, orders) = sync_channel::<Box<Snapshot>>(1);
        let (done, written) = sync_channel(1);
        let (path, model) = (folder.to_owned(), model.clone());
        let thread = std::thread::Builder::new().name("checkpoint".to_owned()).spawn(move || {
            // Made here, so that the training does not wait while gigabytes are touched for the first time.
            if done.send((Box::new(Snapshot::touched(&model)), Ok(()))).is_err() {
                return;
            }
            for copy in orders {
                let Snapshot { weights, m, v, progress, config } = &*copy;
                let saved = save_training(&path, TrainingState { weights, m, v, progress }, config, n_kept);
                if done.send((copy, saved.map(drop))).is_err() {
                    return;
                }
            }
        });
        let thread = Some(thread.map_err(CheckpointError::io("start a thread for", folder))?);
        Ok(Background { copy: None, to_write: Some(to_write), written, thread })
    }

    fn save(&mut self, dev: &Device, state: TrainingState<'_>, config: String) -> Result<(), CheckpointError> {
        let outcome = self.wait();
        if let (Some(mut copy), Some(to_write)) = (self.copy.take(), &self.to_write) {
            for (from, to) in [(state.weights, &mut copy.weights), (state.m, &mut copy.m), (state.v, &mut copy.v)] {
                for ((_, from), (_, to)) in from.tensors().zip(to.tensors_mut()) {
                    ops::copy(dev, from, to);
                }
            }
            (copy.progress, copy.config) = (state.progress.clone(), config);
            // It takes orders as long as this half of the channel lives.
            to_write.send(copy).expect("the thread that writes checkpoints runs");
        }
        outcome
    }

    fn wait(&mut self) -> Result<(), CheckpointError> {
        if self.copy.is_some() {
            return Ok(());
        }
        let (copy, outcome) = self.written.recv().expect("the thread that writes checkpoints runs");
        self.copy = Some(copy);
        outcome
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.to_write = None;
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed; a checkpoint that was not complete has left nothing.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_by_steps_by_the_clock_and_at_an_epochs_end() {
        let due = |config: CheckpointConfig, n_steps, ends_epoch, minutes: u64| {
            let checkpoints = Checkpoints::new(Path::new("unused"), &config);
            checkpoints.is_due(
                n_steps,
                ends_epoch,
                (10, Duration::from_secs(60)),
                Duration::from_secs(60 * (1 + minutes)),
            )
        };
        let none = || CheckpointConfig { every_minutes: 0.0, every_epoch: false, ..CheckpointConfig::default() };
        assert!(!due(none(), 20, true, 1000));
        assert!(due(CheckpointConfig { every_steps: 5, ..none() }, 15, false, 0));
        assert!(!due(CheckpointConfig { every_steps: 5, ..none() }, 16, false, 0));
        assert!(!due(CheckpointConfig { every_steps: 5, ..none() }, 10, false, 0), "written already");
        let by_clock = || CheckpointConfig { every_minutes: 15.0, ..none() };
        assert!(due(by_clock(), 11, false, 15) && !due(by_clock(), 11, false, 14));
        let by_epoch = || CheckpointConfig { every_epoch: true, ..by_clock() };
        assert!(due(by_epoch(), 16, true, 8) && !due(by_epoch(), 16, true, 7) && !due(by_epoch(), 16, false, 8));
        assert!(due(CheckpointConfig { every_minutes: 0.0, ..by_epoch() }, 16, true, 0), "each, where no clock counts");
    }
}
