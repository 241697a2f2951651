//! The training loop.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::config::{Rng, RunConfig};
use super::optimizer::AdamW;
use crate::checkpoint::{CheckpointError, Progress};
use crate::data::{DataConfig, Loader, LoaderError, ShardError, Windows};
use crate::model::{Dropout, Gpt, Masks, Saved, Scratch};
use crate::ops::Device;
use crate::rng::torch::{Generator, Script};
use crate::rng::{self, Purpose};

/// What one step gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// The step, from 0.
    pub step: u64,
    /// The epoch, from 1.
    pub epoch: u64,
    /// Mean loss of its tokens, before the update.
    pub loss: f32,
    /// The learning rate.
    pub lr: f64,
    /// Tokens of the step.
    pub n_tokens: usize,
    /// Tokens trained on so far.
    pub n_tokens_seen: u64,
    /// How long it took.
    pub step_seconds: f64,
}

/// Losses over some batches of both splits, nothing dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvaluationReport {
    /// The step after which it was made, from 0.
    pub step: u64,
    /// The epoch, from 1.
    pub epoch: u64,
    /// Mean of the training batches' means.
    pub train_loss: f32,
    /// Mean of the validation batches' means.
    pub val_loss: f32,
    /// Tokens trained on so far.
    pub n_tokens_seen: u64,
    /// How long it took.
    pub seconds: f64,
}

/// How a training ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// All epochs are done.
    Finished,
    /// It was asked to stop; its state is whole.
    Stopped,
    /// A step's loss was not finite; the weights are those before it.
    Diverged {
        /// The step, from 0.
        step: u64,
        /// The loss.
        loss: f32,
    },
}

/// Who follows a training: tells the time, asks it to stop, writes things down, samples.
pub trait Observer {
    /// What its methods may fail with, and what a training becomes whose tokens cannot be read any more.
    type Error: From<ShardError>;
    /// Time since some fixed moment.
    fn now(&mut self) -> Duration;
    /// Whether the training should end after the step under way.
    fn stop_requested(&mut self) -> bool;
    /// A step was made.
    ///
    /// # Errors
    /// Ends the training.
    fn step(&mut self, report: &StepReport) -> Result<(), Self::Error>;
    /// An evaluation was made.
    ///
    /// # Errors
    /// Ends the training.
    fn evaluation(&mut self, report: &EvaluationReport) -> Result<(), Self::Error>;
    /// An epoch (from 1) is done after `step`.
    ///
    /// # Errors
    /// Ends the training.
    fn epoch_end(&mut self, dev: &Device, gpt: &Gpt, epoch: u64, step: u64) -> Result<(), Self::Error>;
}

/// The samples of both splits.
#[derive(Debug)]
pub struct Splits {
    /// Trained on, in a new order every epoch.
    pub train: Loader,
    /// The same samples, for the training loss of evaluations: in their order, but where the run follows a PyTorch script.
    pub train_evaluated: Loader,
    /// Never trained on.
    pub validation: Loader,
}

impl Splits {
    /// Batches of both parts as a run's section `[data]` says: evaluations take `eval_batch_size` windows and no window is
    /// left out of them.
    ///
    /// # Errors
    /// If a part has not one batch.
    pub fn new(train: Windows, validation: Windows, data: &DataConfig) -> Result<Splits, LoaderError> {
        let data = data.resolved();
        let of_training = |error: LoaderError| error.in_part("the training part");
        Ok(Splits {
            train_evaluated: Loader::new(train.clone(), data.eval_batch_size, false).map_err(of_training)?,
            train: Loader::new(train, data.batch_size, data.drop_last).map_err(of_training)?,
            validation: Loader::new(validation, data.eval_batch_size, false)
                .map_err(|error| error.in_part("the validation part"))?,
        })
    }
}

/// A model in training.
pub struct Trainer<'a> {
    dev: &'a Device,
    config: &'a RunConfig,
    gpt: Gpt,
    /// One block's memory for all: AdamW takes each block's gradient as soon as it is final.
    grad: Gpt,
    optimizer: AdamW,
    saved: Saved,
    saved_evaluation: Saved,
    scratch: Scratch,
    splits: Splits,
    progress: Progress,
    /// Of a run that follows a PyTorch script.
    masks: Option<Masks>,
    /// Whether `splits.train` stands in the epoch of `progress`.
    epoch_begun: bool,
    order: Vec<u32>,
    inputs: Vec<u32>,
    targets: Vec<u32>,
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
            grad: Gpt::zeros_of_one_block(&gpt.config),
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
        batch <= self.steps_per_epoch()
            && epoch.checked_mul(self.steps_per_epoch()).and_then(|n| n.checked_add(batch)) == Some(n_steps)
            && n_steps.checked_mul(n_tokens_a_step).is_some_and(|n| n_tokens_seen <= n)
            && (settled || n_steps > 0)
    }

    /// Writes the state into a run's folder of checkpoints; returns the new one's folder.
    ///
    /// # Errors
    /// What the system says.
    pub fn save(&self, checkpoints: &Path) -> Result<PathBuf, CheckpointError> {
        let (m, v) = self.optimizer.moments();
        let config = toml::to_string_pretty(self.config).map_err(|error| CheckpointError::Config {
            path: checkpoints.to_owned(),
            key: "the run's settings",
            found: error.to_string(),
            expected: "values that TOML can hold".to_owned(),
        })?;
        crate::checkpoint::save_training(checkpoints, &self.gpt, m, v, &self.progress, &config)
    }

    /// The model.
    pub fn gpt(&self) -> &Gpt {
        &self.gpt
    }

    /// Where the training stands.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The tokens [B, T] that went into the model last: after [`step`](Self::step) those of its batch.
    pub fn inputs(&self) -> &[u32] {
        &self.inputs
    }

    /// Steps of an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        self.splits.train.n_batches() as u64
    }

    /// Steps of the whole training.
    pub fn n_steps_in_all(&self) -> u64 {
        self.steps_per_epoch().saturating_mul(self.config.train.epochs)
    }

    /// Trains to the end of the last epoch, or until the observer asks to stop.
    ///
    /// # Errors
    /// What the observer fails with; a file with tokens that cannot be read any more.
    pub fn run<O: Observer>(&mut self, observer: &mut O) -> Result<Outcome, O::Error> {
        loop {
            if !self.progress.settled {
                self.settle(observer)?;
            }
            if self.progress.n_steps >= self.n_steps_in_all() {
                return Ok(Outcome::Finished);
            }
            if observer.stop_requested() {
                return Ok(Outcome::Stopped);
            }
            let start = observer.now();
            let mut report = self.step()?;
            if !report.loss.is_finite() {
                return Ok(Outcome::Diverged { step: report.step, loss: report.loss });
            }
            report.step_seconds = (observer.now() - start).as_secs_f64();
            observer.step(&report)?;
            if observer.stop_requested() {
                return Ok(Outcome::Stopped);
            }
        }
    }

    /// What follows a step: the evaluation and the end of the epoch, where they are due.
    fn settle<O: Observer>(&mut self, observer: &mut O) -> Result<(), O::Error> {
        let step = self.progress.n_steps - 1;
        if step.is_multiple_of(self.config.train.eval_every) {
            let start = observer.now();
            let mut report = self.evaluate()?;
            report.seconds = (observer.now() - start).as_secs_f64();
            observer.evaluation(&report)?;
        }
        if self.progress.n_steps.is_multiple_of(self.steps_per_epoch()) {
            observer.epoch_end(self.dev, &self.gpt, self.progress.n_steps / self.steps_per_epoch(), step)?;
        }
        self.progress.settled = true;
        Ok(())
    }

    /// One optimizer step on the next batch. Allocates nothing after the first; where a last batch that is not full is kept,
    /// nothing after the first of each size.
    ///
    /// If the loss is not finite, neither weights, moments nor the place in the data and in what is drawn change.
    ///
    /// # Errors
    /// If the batch cannot be read, which happens only where its tokens are in files.
    pub fn step(&mut self) -> Result<StepReport, ShardError> {
        let script = self.progress.torch.clone();
        self.begin_epoch_if_due();
        let n_sequences = self.splits.train.next_batch(&mut self.inputs, &mut self.targets)?;
        let n_tokens = self.inputs.len();
        let Progress { n_steps, epoch, .. } = self.progress;
        let (config, seed) = (&self.config.train, self.config.train.seed);
        let drop = match (&mut self.masks, &mut self.progress.torch) {
            (Some(masks), Some(script)) => masks.draw(script.generator(), n_sequences, n_tokens / n_sequences),
            _ => Dropout::of_step(rng::stream(seed, Purpose::Dropout, n_steps), 0, self.gpt.config.dropout),
        };
        self.optimizer.begin_step(n_steps, config.lr);
        self.optimizer.touch(&self.inputs);
        let (dev, optimizer) = (self.dev, &mut self.optimizer);
        let sum = self.gpt.forward_backward(
            dev,
            &self.inputs,
            &self.targets,
            n_sequences,
            &drop,
            1.0 / n_tokens as f32,
            &mut self.grad,
            &mut self.saved,
            &mut self.scratch,
            &mut |part, weights, grad| optimizer.update(dev, part, weights, grad),
        );
        let loss = (sum / n_tokens as f64) as f32;
        if loss.is_finite() {
            self.progress.n_steps += 1;
            self.progress.batch += 1;
            self.progress.n_tokens_seen += n_tokens as u64;
            self.progress.settled = false;
        } else {
            self.forget_step();
            self.progress.torch = script;
        }
        let n_tokens_seen = self.progress.n_tokens_seen;
        let lr = config.lr;
        Ok(StepReport { step: n_steps, epoch: epoch + 1, loss, lr, n_tokens, n_tokens_seen, step_seconds: 0.0 })
    }

    /// Takes back what a step without an update has left: the head's gradient, and a loader one batch further on.
    fn forget_step(&mut self) {
        self.grad.tensors_mut().for_each(|(_, tensor)| tensor.as_mut_slice().fill(0.0));
        self.epoch_begun = false;
    }

    fn begin_epoch_if_due(&mut self) {
        if self.progress.batch == self.splits.train.n_batches() {
            self.progress.epoch += 1;
            self.progress.batch = 0;
            self.epoch_begun = false;
        }
        if self.epoch_begun {
            return;
        }
        let loader = &mut self.splits.train;
        let (epoch, n, shuffle) = (self.progress.epoch, loader.n_windows(), self.config.data.shuffle);
        if let Some(script) = &mut self.progress.torch {
            script.begin_epoch(epoch, n, shuffle, &mut self.order);
            loader.start_epoch(Some(&self.order));
        } else if shuffle {
            rng::permute(self.config.train.seed, epoch, n, &mut self.order);
            loader.start_epoch(Some(&self.order));
        } else {
            loader.start_epoch(None);
        }
        // The place was taken from this loader, or compared with it in `resume`.
        loader.seek(self.progress.batch).expect("a place inside the epoch");
        self.epoch_begun = true;
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
