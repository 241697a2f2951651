//! The training loop.

use std::path::{Path, PathBuf};

use super::checkpoints::Checkpoints;
use super::config::{Rng, RunConfig};
use super::early_stopping::best_after;
use super::guard::{Remedy, Trouble};
use super::optimizer::AdamW;
use super::report::{EvaluationReport, Observer, Outcome, StepReport};
use super::splits::Splits;
use crate::checkpoint::{CheckpointError, Progress, TrainingState};
use crate::data::{Loader, ShardError};
use crate::model::{Gpt, Masks, Saved, Scratch};
use crate::ops::Device;
use crate::rng::torch::{Generator, Script};

/// Steps in a row that may be passed over, and times that a training may go back, before it is given up.
const MOST_REMEDIES: u64 = 10;

/// A model in training.
pub struct Trainer<'a> {
    pub(super) dev: &'a Device,
    pub(super) config: &'a RunConfig,
    pub(super) gpt: Gpt,
    /// One block's memory for all where AdamW takes each block's gradient as soon as it is final.
    pub(super) grad: Gpt,
    pub(super) optimizer: AdamW,
    pub(super) saved: Saved,
    saved_evaluation: Saved,
    pub(super) scratch: Scratch,
    pub(super) splits: Splits,
    pub(super) progress: Progress,
    /// Of a run that follows a PyTorch script.
    pub(super) masks: Option<Masks>,
    /// Whether `splits.train` stands in the epoch of `progress`.
    pub(super) epoch_begun: bool,
    pub(super) order: Vec<u32>,
    pub(super) inputs: Vec<u32>,
    pub(super) targets: Vec<u32>,
}

impl<'a> Trainer<'a> {
    /// A training at its start, of fresh weights as `config` says.
    ///
    /// # Panics
    /// If [`RunConfig::validate_fresh_weights`] refuses the config.
    pub fn fresh(dev: &'a Device, config: &'a RunConfig, splits: Splits) -> Trainer<'a> {
        match config.train.rng {
            Rng::Calame => {
                let gpt = Gpt::fresh(dev, &config.model, config.train.seed);
                Trainer::with_script(dev, config, gpt, splits, None)
            }
            Rng::Torch => {
                let mut random = Generator::new(config.train.seed);
                let gpt = Gpt::fresh_as_torch(&config.model, &mut random);
                Trainer::with_script(dev, config, gpt, splits, Some(Script::new(random)))
            }
        }
    }

    /// A training at its start, of given weights. Where it follows a PyTorch script, that one seeds its generator after it
    /// has its model.
    pub fn new(dev: &'a Device, config: &'a RunConfig, gpt: Gpt, splits: Splits) -> Trainer<'a> {
        let script = (config.train.rng == Rng::Torch).then(|| Script::new(Generator::new(config.train.seed)));
        Trainer::with_script(dev, config, gpt, splits, script)
    }

    fn with_script(
        dev: &'a Device,
        config: &'a RunConfig,
        gpt: Gpt,
        mut splits: Splits,
        script: Option<Script>,
    ) -> Trainer<'a> {
        let data = config.data.resolved();
        if script.is_some() {
            // The book evaluates over the loader that it trains on.
            splits.train_evaluated = splits.train.clone();
        }
        let n_sequences = data.batch_size.max(data.eval_batch_size);
        Trainer {
            dev,
            config,
            grad: if config.keeps_whole_gradient() {
                Gpt::zeros_for_training(&gpt.config)
            } else {
                Gpt::zeros_of_one_block(&gpt.config)
            },
            optimizer: AdamW::new(&gpt.config, &config.train),
            saved: Saved::for_training(&gpt.config, data.batch_size, data.window),
            saved_evaluation: Saved::for_evaluation(&gpt.config, n_sequences, data.window),
            scratch: Scratch::new(&gpt.config, n_sequences * data.window),
            masks: script.is_some().then(|| Masks::new(&gpt.config)),
            gpt,
            splits,
            progress: Progress { settled: true, torch: script, ..Progress::default() },
            epoch_begun: false,
            order: Vec::new(),
            inputs: Vec::new(),
            targets: Vec::new(),
        }
    }

    /// Takes up the state that a checkpoint in `folder` holds.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn resume(&mut self, folder: &Path) -> Result<(), CheckpointError> {
        let (m, v) = self.optimizer.moments_mut();
        let progress = crate::checkpoint::load_training(folder, &mut self.gpt, m, v)?;
        self.optimizer.find_touched();
        self.check_script(folder, &progress)?;
        if !self.is_reachable(&progress) {
            let Progress { n_steps, epoch, batch, n_tokens_seen, settled, .. } = progress;
            let found = format!(
                "step {n_steps}, epoch {epoch}, batch {batch}, {n_tokens_seen} tokens seen, settled: {settled}"
            );
            let steps_per_epoch = self.steps_per_epoch();
            return Err(CheckpointError::Place { path: folder.to_owned(), found, steps_per_epoch });
        }
        self.progress = progress;
        self.epoch_begun = false;
        Ok(())
    }

    /// Whether a checkpoint has what goes on where the run's random numbers come from.
    fn check_script(&self, folder: &Path, progress: &Progress) -> Result<(), CheckpointError> {
        let place = |found: &str, expected: &str| CheckpointError::Config {
            path: folder.join("state.json"),
            key: "torch",
            found: found.to_owned(),
            expected: expected.to_owned(),
        };
        match (&progress.torch, self.config.train.rng) {
            (None, Rng::Torch) => Err(place("none", "the state of PyTorch's generator, since train.rng is torch")),
            (Some(_), Rng::Calame) => Err(place("a state of PyTorch's generator", "none, since train.rng is calame")),
            (Some(script), Rng::Torch) if progress.batch > 0 && script.epoch() != Some(progress.epoch) => {
                let found = script.epoch().map_or("before its first epoch".to_owned(), |n| format!("in epoch {n}"));
                Err(place(&found, &format!("a place in epoch {}, as the run's", progress.epoch)))
            }
            _ => Ok(()),
        }
    }

    /// Whether a training on these batches comes to this place.
    fn is_reachable(&self, progress: &Progress) -> bool {
        let Progress { n_steps, epoch, batch, n_tokens_seen, settled, .. } = *progress;
        let (batch, loader) = (batch as u64, &self.splits.train);
        let n_tokens_a_step = (loader.batch_size() * loader.window()) as u64;
        let (n_batches, accumulate) = (loader.n_batches() as u64, self.config.train.accumulate as u64);
        let n_steps_of_epoch = batch.div_ceil(accumulate);
        batch <= n_batches
            && (batch.is_multiple_of(accumulate) || batch == n_batches)
            && epoch.checked_mul(self.steps_per_epoch()).and_then(|n| n.checked_add(n_steps_of_epoch)) == Some(n_steps)
            && n_steps.checked_mul(n_tokens_a_step.saturating_mul(accumulate)).is_some_and(|n| n_tokens_seen <= n)
            && (settled || n_steps > 0)
    }

    /// Writes the state into a run's folder of checkpoints; returns the new one's folder.
    ///
    /// # Errors
    /// What the system says.
    pub fn save(&self, checkpoints: &Path) -> Result<PathBuf, CheckpointError> {
        let config = self.config.to_toml(checkpoints)?;
        crate::checkpoint::save_training(checkpoints, self.state(), &config, 1)
    }

    /// What a checkpoint holds.
    pub(super) fn state(&self) -> TrainingState<'_> {
        let (m, v) = self.optimizer.moments();
        TrainingState { weights: &self.gpt, m, v, progress: &self.progress }
    }

    /// The model.
    pub fn gpt(&self) -> &Gpt {
        &self.gpt
    }

    /// The settings.
    pub fn config(&self) -> &RunConfig {
        self.config
    }

    /// Tokens of the training text.
    pub fn n_train_tokens(&self) -> usize {
        self.splits.train.n_tokens()
    }

    /// Where the training stands.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The tokens [B, T] that went into the model last: after [`step`](Self::step) those of its batch.
    pub fn inputs(&self) -> &[u32] {
        &self.inputs
    }

    /// Steps of an epoch; the last takes fewer batches where `train.accumulate` does not divide them.
    pub fn steps_per_epoch(&self) -> u64 {
        self.splits.train.n_batches().div_ceil(self.config.train.accumulate) as u64
    }

    /// Steps of the whole training.
    pub fn n_steps_in_all(&self) -> u64 {
        self.steps_per_epoch().saturating_mul(self.config.train.epochs)
    }

    /// Trains to the end of the last epoch, or until the observer asks to stop; writes no checkpoints.
    ///
    /// # Errors
    /// What the observer fails with; a file with tokens that cannot be read any more.
    pub fn run<O: Observer>(&mut self, observer: &mut O) -> Result<Outcome, O::Error> {
        self.run_with(None, observer)
    }

    /// As [`Trainer::run`], with checkpoints whenever they are due; one that cannot be written does not end the training.
    ///
    /// # Errors
    /// As [`Trainer::run`].
    pub fn run_saving<O: Observer>(
        &mut self,
        checkpoints: &mut Checkpoints,
        observer: &mut O,
    ) -> Result<Outcome, O::Error> {
        self.run_with(Some(checkpoints), observer)
    }

    fn run_with<O: Observer>(
        &mut self,
        mut checkpoints: Option<&mut Checkpoints>,
        observer: &mut O,
    ) -> Result<Outcome, O::Error> {
        loop {
            if !self.progress.settled {
                self.settle(observer)?;
            }
            if let Some(outcome) = self.end() {
                return Ok(outcome);
            }
            if let Some(checkpoints) = &mut checkpoints {
                checkpoints.save_if_due(self, observer);
            }
            if observer.stop_requested() {
                return Ok(Outcome::Stopped);
            }
            let start = observer.now();
            let mut report = self.step()?;
            if let Some(trouble) = report.trouble {
                if let Some(outcome) = self.remedy(&report, trouble, checkpoints.as_deref_mut(), observer)? {
                    return Ok(outcome);
                }
                continue;
            }
            report.step_seconds = (observer.now() - start).as_secs_f64();
            observer.step(&report)?;
            if observer.stop_requested() {
                return Ok(Outcome::Stopped);
            }
        }
    }

    /// How the training ends here, if it does.
    fn end(&self) -> Option<Outcome> {
        let patience = self.config.early_stopping.patience;
        if self.progress.n_steps >= self.n_steps_in_all() {
            return Some(Outcome::Finished);
        }
        let hopeless = patience > 0 && self.progress.best.is_some_and(|best| best.n_since >= patience);
        hopeless.then_some(Outcome::StoppedEarly)
    }

    /// Does what the settings say about a step that went bad; how the training ends if that is nothing, or was done too often.
    fn remedy<O: Observer>(
        &mut self,
        report: &StepReport,
        trouble: Trouble,
        checkpoints: Option<&mut Checkpoints>,
        observer: &mut O,
    ) -> Result<Option<Outcome>, O::Error> {
        let step = report.step;
        let diverged = Outcome::Diverged { step, trouble };
        match self.config.guard.remedy {
            Remedy::Skip if self.progress.n_skipped_in_a_row < MOST_REMEDIES => {
                self.pass_over();
                observer.skipped(report)?;
                Ok(None)
            }
            Remedy::Back if self.progress.n_backs < MOST_REMEDIES => {
                let Some(checkpoints) = checkpoints else { return Ok(Some(diverged)) };
                let n_backs = self.progress.n_backs + 1;
                let folder = match checkpoints.newest() {
                    Ok(Some(folder)) => folder,
                    Ok(None) => return Ok(Some(diverged)),
                    Err(error) => {
                        observer.checkpoint_failed(&error);
                        return Ok(Some(diverged));
                    }
                };
                if let Err(error) = self.resume(&folder) {
                    return Ok(Some(Outcome::Lost { step, trouble, reason: error.to_string() }));
                }
                self.progress.n_backs = n_backs;
                observer.went_back(report, &folder, &self.progress)?;
                Ok(None)
            }
            _ => {
                // Who goes on from here is given as many again.
                self.progress.n_skipped_in_a_row = 0;
                Ok(Some(diverged))
            }
        }
    }

    /// What follows a step: the evaluation and the end of the epoch, where they are due. After an error the progress is that
    /// before it, so that a state which is saved then does all of it again.
    fn settle<O: Observer>(&mut self, observer: &mut O) -> Result<(), O::Error> {
        let before = self.progress.clone();
        let settled = self.evaluate_and_tell(observer);
        if settled.is_err() {
            self.progress = before;
        }
        settled
    }

    fn evaluate_and_tell<O: Observer>(&mut self, observer: &mut O) -> Result<(), O::Error> {
        let step = self.progress.n_steps - 1;
        if step.is_multiple_of(self.config.train.eval_every) {
            let start = observer.now();
            let mut report = self.evaluate()?;
            report.seconds = (observer.now() - start).as_secs_f64();
            observer.evaluation(&report)?;
            let stopping = &self.config.early_stopping;
            let (best, is_new) = best_after(self.progress.best, step, report.val_loss, stopping.min_change);
            if !is_new || !stopping.is_on() || observer.improved(&self.gpt, &report)? {
                self.progress.best = best;
            }
        }
        if self.progress.n_steps.is_multiple_of(self.steps_per_epoch()) {
            observer.epoch_end(self.dev, &self.gpt, self.progress.n_steps / self.steps_per_epoch(), step)?;
        }
        self.progress.settled = true;
        Ok(())
    }

    /// The losses now.
    ///
    /// Where the run follows a PyTorch script this draws, as there: what comes after it changes.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn evaluate(&mut self) -> Result<EvaluationReport, ShardError> {
        let train_loss = self.evaluate_split(|splits| &mut splits.train_evaluated, self.config.data.shuffle)?;
        let val_loss = self.evaluate_split(|splits| &mut splits.validation, false)?;
        let Progress { n_steps, epoch, n_tokens_seen, .. } = self.progress;
        let step = n_steps.saturating_sub(1);
        Ok(EvaluationReport { step, epoch: epoch + 1, train_loss, val_loss, n_tokens_seen, seconds: 0.0 })
    }

    /// The mean of the means of a split's first batches; only PyTorch's script shuffles.
    fn evaluate_split(&mut self, split: fn(&mut Splits) -> &mut Loader, shuffle: bool) -> Result<f32, ShardError> {
        let loader = split(&mut self.splits);
        if let Some(script) = &mut self.progress.torch {
            script.evaluation_pass(loader.n_windows(), shuffle, &mut self.order);
            loader.start_epoch(Some(&self.order));
        } else {
            loader.start_epoch(None);
        }
        let (mut sum, mut n) = (0.0, 0);
        while n < self.config.train.eval_batches {
            let n_sequences = loader.next_batch(&mut self.inputs, &mut self.targets)?;
            if n_sequences == 0 {
                break;
            }
            let (saved, scratch) = (&mut self.saved_evaluation, &mut self.scratch);
            let loss = self.gpt.loss(self.dev, &self.inputs, &self.targets, n_sequences, saved, scratch);
            sum += loss / self.targets.len() as f64;
            n += 1;
        }
        Ok((sum / f64::from(n as u32)) as f32)
    }
}
