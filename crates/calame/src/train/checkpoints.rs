//! Decides when checkpoints are written, and writes them directly or in the background.

mod folder;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::checkpoint_config::CheckpointConfig;
use super::config::RunConfig;
use super::progress::Progress;
use super::report::Observer;
use super::state::TrainingState;
use crate::formats::CheckpointError;
use crate::model::{Gpt, Head, Trainable};
use crate::ops::{self, Device, Isa, Precision};
use crate::tensor::Alloc;

pub(crate) use self::folder::is_checkpoint_file_name;
pub use self::folder::{
    checkpoint_progress, clear_partial, free_checkpoint, is_disk_full, latest_checkpoint, load_training, save_best,
    save_training, sound_checkpoint, system_error, take_best, verify_checkpoint,
};

/// Everything a checkpoint is written from.
#[derive(Debug)]
pub struct Savable<'a> {
    /// Settings of the run, saved with the state.
    pub config: &'a RunConfig,
    /// Weights, moments and progress.
    pub state: TrainingState<'a>,
    /// The trainable parameters; the others have no moments.
    pub trainable: Trainable,
}

/// The checkpoints of a run: decides when the next one is due and writes it.
#[derive(Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    config: CheckpointConfig,
    /// Completed steps at the last checkpoint, and its time.
    last: Option<(u64, Duration)>,
    background: Option<Background>,
}

impl Checkpoints {
    /// Checkpoints in the folder `checkpoints` of a run, which need not exist yet.
    pub fn new(folder: &Path, config: &CheckpointConfig) -> Checkpoints {
        Checkpoints { folder: folder.to_owned(), config: config.clone(), last: None, background: None }
    }

    /// Writes a checkpoint if one is due. An error is reported to the observer; earlier checkpoints are kept.
    pub(super) fn save_if_due<'t, O: Observer>(
        &mut self,
        n_steps: u64,
        steps_per_epoch: u64,
        savable: impl Fn() -> Savable<'t>,
        observer: &mut O,
    ) {
        let now = observer.now();
        let Some(last) = self.last else {
            // The state at the start of the training needs no checkpoint. Memory for copies is touched in the meantime.
            self.last = Some((n_steps, now));
            if self.config.copy
                && let Err(error) = self.background(&savable())
            {
                observer.checkpoint_failed(&error);
            }
            return;
        };
        if !self.is_due(n_steps, n_steps.is_multiple_of(steps_per_epoch), last, now) {
            return;
        }
        if let Err(error) = self.save(&savable()) {
            observer.checkpoint_failed(&error);
        }
        // Also after a failure: a disk that is full now is still full after the next step.
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

    /// Writes a checkpoint now, directly or in the background as configured.
    ///
    /// # Errors
    /// Returns the system's error for this checkpoint or for the one in progress; earlier checkpoints are intact.
    pub fn save(&mut self, savable: &Savable<'_>) -> Result<(), CheckpointError> {
        let (state, config) = (&savable.state, savable.config.to_toml(&self.folder)?);
        if !self.config.copy {
            return save_training(&self.folder, state, &config, self.config.keep).map(|_| ());
        }
        self.background(savable)?.save(state, config)
    }

    /// The thread that writes copies, started at its first use.
    fn background(&mut self, savable: &Savable<'_>) -> Result<&mut Background, CheckpointError> {
        Ok(match &mut self.background {
            Some(background) => background,
            none => none.insert(Background::start(&self.folder, savable, self.config.keep)?),
        })
    }

    /// Waits until the checkpoint in progress is complete.
    ///
    /// # Errors
    /// Returns the system's error for that checkpoint; earlier checkpoints are intact.
    pub fn wait(&mut self) -> Result<(), CheckpointError> {
        self.background.as_mut().map_or(Ok(()), Background::wait)
    }

    /// The newest undamaged checkpoint, or `None`.
    ///
    /// # Errors
    /// Returns the system's error.
    pub(super) fn newest(&mut self) -> Result<Option<PathBuf>, CheckpointError> {
        self.wait()?;
        Ok(sound_checkpoint(&self.folder)?.0)
    }
}

/// A second copy of a training's state, in host memory.
#[derive(Debug)]
struct Snapshot {
    trees: [Gpt; 3],
    own_heads: Option<[Head; 3]>,
    progress: Progress,
    config: String,
}

impl Snapshot {
    /// Allocates memory for a state, without touching its pages.
    fn like(savable: &Savable<'_>, host: &Device) -> Snapshot {
        let alloc = &mut Alloc::on(host);
        let (gpt, trainable) = (savable.state.trees[0], savable.trainable);
        let trees = [Trainable::ALL, trainable, trainable].map(|trainable| gpt.moments(trainable, alloc));
        let own_heads = savable.state.own_heads.map(|heads| heads.map(|head| head.zeros_like(alloc)));
        Snapshot { trees, own_heads, progress: Progress::default(), config: String::new() }
    }

    /// Overwrites the memory with zeros, so that the system provides its pages now.
    fn touch(&mut self, host: &Device) {
        let heads = self.own_heads.iter_mut().flatten().flat_map(Head::tensors_mut);
        self.trees.iter_mut().flat_map(Gpt::tensors_mut).chain(heads).for_each(|(_, x)| ops::fill(host, 0.0, x));
    }

    /// Copies a state from its device.
    fn copy_from(&mut self, state: &TrainingState<'_>, config: String) {
        let dev = state.dev;
        for (from, to) in state.trees.iter().zip(&mut self.trees) {
            from.tensors().zip(to.tensors_mut()).for_each(|((_, from), (_, to))| ops::read_to_host(dev, from, to));
        }
        if let (Some(from), Some(to)) = (&state.own_heads, &mut self.own_heads) {
            let tensors = from.iter().flat_map(|head| head.tensors()).zip(to.iter_mut().flat_map(Head::tensors_mut));
            tensors.for_each(|((_, from), (_, to))| ops::read_to_host(dev, from, to));
        }
        (self.progress, self.config) = (state.progress.clone(), config);
    }

    fn state<'a>(&'a self, host: &'a Device) -> TrainingState<'a> {
        TrainingState {
            dev: host,
            trees: self.trees.each_ref(),
            own_heads: self.own_heads.as_ref().map(<[Head; 3]>::each_ref),
            progress: self.progress.clone(),
        }
    }
}

/// The thread that writes copies in the background.
#[derive(Debug)]
struct Background {
    /// The copy, unless it is being written.
    copy: Option<Box<Snapshot>>,
    /// The channel to the thread; dropping it ends the thread.
    to_write: Option<SyncSender<Box<Snapshot>>>,
    written: Receiver<(Box<Snapshot>, Result<(), CheckpointError>)>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    fn start(folder: &Path, savable: &Savable<'_>, n_kept: usize) -> Result<Background, CheckpointError> {
        let (to_write, orders) = sync_channel::<Box<Snapshot>>(1);
        let (done, written) = sync_channel(1);
        let host = Device::cpu(1, Isa::Portable, Precision::F32);
        let (path, mut first) = (folder.to_owned(), Box::new(Snapshot::like(savable, &host)));
        let thread = std::thread::Builder::new().name("checkpoint".to_owned()).spawn(move || {
            // Allocated here, so that the training does not wait while gigabytes are touched for the first time.
            first.touch(&host);
            if done.send((first, Ok(()))).is_err() {
                return;
            }
            for copy in orders {
                let saved = save_training(&path, &copy.state(&host), &copy.config, n_kept);
                if done.send((copy, saved.map(drop))).is_err() {
                    return;
                }
            }
        });
        let thread = Some(thread.map_err(CheckpointError::io("start a thread for", folder))?);
        Ok(Background { copy: None, to_write: Some(to_write), written, thread })
    }

    fn save(&mut self, state: &TrainingState<'_>, config: String) -> Result<(), CheckpointError> {
        let outcome = self.wait();
        if let (Some(mut copy), Some(to_write)) = (self.copy.take(), &self.to_write) {
            copy.copy_from(state, config);
            // The thread receives as long as this end of the channel exists.
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
            // A panic of the thread has been printed; its incomplete checkpoint has left nothing behind.
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
