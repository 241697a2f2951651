//! The training loop: steps, evaluations, remedies for failed steps, checkpoints.

use std::path::{Path, PathBuf};

use super::checkpoints::{Checkpoints, Savable, load_training, save_training};
use super::config::RunConfig;
use super::early_stopping::best_after;
use super::evaluation::bits_per_byte;
use super::gradient_plan::GradientPlan;
use super::guard::{Remedy, StepFault};
use super::objective::{NextToken, Objective, PassBuffers, PassSizes};
use super::optimizer::AdamW;
use super::participants::{Participants, Solo};
use super::progress::Progress;
use super::randomness::{self, Randomness};
use super::report::{EvaluationReport, Observer, Outcome, StepReport};
use super::state::TrainingState;
use crate::data::{Batch, Loader, ShardError, Splits};
use crate::formats::CheckpointError;
use crate::model::{Gpt, Gradients, Head, Saved, Trainable};
use crate::ops::Device;
use crate::tensor::Alloc;

/// Steps in a row that may be skipped, and rollbacks of a training, before it is given up.
const MOST_REMEDIES: u64 = 10;

/// A model in training.
pub struct Trainer<'a> {
    pub(super) dev: &'a Device,
    pub(super) config: &'a RunConfig,
    pub(super) gpt: Gpt,
    pub(super) objective: Box<dyn Objective>,
    pub(super) participants: Box<dyn Participants>,
    pub(super) plan: GradientPlan,
    pub(super) grads: Gradients,
    pub(super) optimizer: AdamW,
    pub(super) buffers: PassBuffers,
    saved_evaluation: Saved,
    pub(super) splits: Splits,
    pub(super) progress: Progress,
    pub(super) randomness: Box<dyn Randomness>,
    /// Whether `splits.train` is in the epoch of `progress`.
    pub(super) epoch_begun: bool,
    /// The batches of the step.
    pub(super) batches: Vec<Batch>,
    /// A batch of an evaluation.
    evaluated: Batch,
}

impl<'a> Trainer<'a> {
    /// A training at its start, of fresh weights as `config` says.
    ///
    /// # Panics
    /// If [`RunConfig::validate_fresh_weights`] rejects the config.
    pub fn fresh(dev: &'a Device, config: &'a RunConfig, splits: Splits) -> Trainer<'a> {
        let (gpt, randomness) = randomness::fresh_weights(dev, config);
        Trainer::create(dev, config, gpt, Trainable::ALL, Box::new(NextToken), splits, randomness)
    }

    /// A training at its start, of given weights, all of which are trained to predict the next token.
    ///
    /// # Panics
    /// Here or in the first step, if [`RunConfig::validate`] rejects `config`.
    pub fn new(dev: &'a Device, config: &'a RunConfig, gpt: Gpt, splits: Splits) -> Trainer<'a> {
        Trainer::with_objective(dev, config, gpt, Trainable::ALL, Box::new(NextToken), splits)
    }

    /// A training at its start, of given weights, some of which are trained for an objective.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn with_objective(
        dev: &'a Device,
        config: &'a RunConfig,
        gpt: Gpt,
        trainable: Trainable,
        objective: Box<dyn Objective>,
        splits: Splits,
    ) -> Trainer<'a> {
        let randomness = randomness::for_given_weights(config);
        Trainer::create(dev, config, gpt, trainable, objective, splits, randomness)
    }

    fn create(
        dev: &'a Device,
        config: &'a RunConfig,
        gpt: Gpt,
        trainable: Trainable,
        objective: Box<dyn Objective>,
        mut splits: Splits,
        randomness: Box<dyn Randomness>,
    ) -> Trainer<'a> {
        let (data, alloc) = (config.data.resolved(), &mut Alloc::on(dev));
        randomness.prepare(&mut splits);
        let (n_sequences, n_positions) = (data.batch_size, data.window);
        let n_evaluated = n_sequences.max(data.eval_batch_size);
        let own_head = objective.head();
        let trainable = Trainable { lm_head: trainable.lm_head && own_head.is_none(), ..trainable };
        let sizes = PassSizes {
            n_sequences,
            n_positions,
            n_rows: n_evaluated * n_positions,
            n_outputs: own_head.map_or(gpt.config.vocab_size, Head::n_outputs),
            rank: gpt.rank(),
        };
        let plan = GradientPlan::of(config);
        Trainer {
            dev,
            config,
            plan,
            grads: Gradients::new(&gpt, own_head, trainable, plan.n_buffers(gpt.config.n_layer), alloc),
            optimizer: AdamW::new(&gpt, own_head, trainable, &config.train, alloc),
            buffers: PassBuffers::for_training(&gpt.config, sizes, alloc),
            saved_evaluation: Saved::for_evaluation(&gpt.config, n_evaluated, n_positions, alloc),
            gpt,
            objective,
            participants: Box::new(Solo),
            splits,
            progress: Progress { settled: true, ..Progress::default() },
            randomness,
            epoch_begun: false,
            batches: Vec::new(),
            evaluated: Batch::default(),
        }
    }

    /// The same training as one of several participants, which agree on losses and norms.
    #[must_use]
    pub fn with_participants(self, participants: Box<dyn Participants>) -> Trainer<'a> {
        Trainer { participants, ..self }
    }

    /// Resumes from the state that a checkpoint in `folder` holds.
    ///
    /// # Errors
    /// Names the file and what is wrong with it; weights and moments are unspecified then.
    pub fn resume(&mut self, folder: &Path) -> Result<(), CheckpointError> {
        let (gpt, own_head) = (&mut self.gpt, self.objective.head_mut());
        let mut progress = self.optimizer.load_moments(self.dev, |[m, v], head_moments| {
            load_training(self.dev, folder, [gpt, m, v], own_head.zip(head_moments))
        })?;
        let state = progress.torch.take();
        let restored = self.randomness.restore(state, progress.epoch, progress.batch);
        restored.map_err(|mismatch| CheckpointError::Config {
            path: folder.join("state.json"),
            key: "torch",
            found: mismatch.found,
            expected: mismatch.expected,
        })?;
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

    /// Whether a training on these batches reaches this position.
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
        save_training(checkpoints, &self.savable().state, &config, 1)
    }

    /// What a checkpoint is written from.
    pub fn savable(&self) -> Savable<'_> {
        let (m, v) = self.optimizer.moments();
        let heads = self.objective.head().zip(self.optimizer.head_moments());
        let progress = Progress { torch: self.randomness.state(), ..self.progress.clone() };
        Savable {
            config: self.config,
            state: TrainingState {
                dev: self.dev,
                trees: [&self.gpt, m, v],
                own_heads: heads.map(|(head, [m, v])| [head, m, v]),
                progress,
            },
            trainable: self.grads.trainable(),
        }
    }

    /// The device that its tensors are on.
    pub fn device(&self) -> &Device {
        self.dev
    }

    /// The model as it is after the last step.
    pub fn gpt(&self) -> &Gpt {
        &self.gpt
    }

    /// What it is trained for.
    pub fn objective(&self) -> &dyn Objective {
        self.objective.as_ref()
    }

    /// The settings of the run.
    pub fn config(&self) -> &RunConfig {
        self.config
    }

    /// Tokens of the training text.
    pub fn n_train_tokens(&self) -> usize {
        self.splits.train.n_tokens()
    }

    /// How far the training is. The state of a PyTorch script's generator is in checkpoints only.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The tokens [B, T] of the last batch of the last [`step`](Self::step).
    pub fn inputs(&self) -> &[u32] {
        self.batches.last().map_or(&[], |batch| &batch.inputs)
    }

    /// Steps of an epoch; the last takes fewer batches where `train.accumulate` does not divide them.
    pub fn steps_per_epoch(&self) -> u64 {
        self.splits.train.n_batches().div_ceil(self.config.train.accumulate) as u64
    }

    /// Steps of the whole training: of all epochs, or `train.max_steps` if that is less.
    pub fn n_steps_total(&self) -> u64 {
        self.config.train.n_steps(self.steps_per_epoch())
    }

    /// Trains to the end of the last epoch or `train.max_steps`, or until the observer asks to stop; writes no checkpoints.
    ///
    /// # Errors
    /// What the observer fails with; a file with tokens that cannot be read any more.
    ///
    /// # Panics
    /// If windows are longer than the model's context, or a token is outside its vocabulary, which [`RunConfig::validate`] and
    /// [`RunConfig::validate_tokenizer`] reject.
    pub fn run<O: Observer>(&mut self, observer: &mut O) -> Result<Outcome, O::Error> {
        self.run_with(None, observer)
    }

    /// As [`Trainer::run`], with checkpoints whenever they are due; one that cannot be written does not end the training.
    ///
    /// # Errors
    /// As [`Trainer::run`].
    ///
    /// # Panics
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
                let (n_steps, steps_per_epoch) = (self.progress.n_steps, self.steps_per_epoch());
                checkpoints.save_if_due(n_steps, steps_per_epoch, || self.savable(), observer);
            }
            if observer.stop_requested() {
                return Ok(Outcome::Stopped);
            }
            let start = observer.now();
            let mut report = self.step()?;
            if let Some(fault) = report.fault {
                if let Some(outcome) = self.remedy(&report, fault, checkpoints.as_deref_mut(), observer)? {
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
        if self.progress.n_steps >= self.n_steps_total() {
            return Some(Outcome::Finished);
        }
        let hopeless = patience > 0 && self.progress.best.is_some_and(|best| best.n_since >= patience);
        hopeless.then_some(Outcome::StoppedEarly)
    }

    /// Applies the settings' remedy for a failed step; returns how the training ends if there is none, or too many.
    fn remedy<O: Observer>(
        &mut self,
        report: &StepReport,
        fault: StepFault,
        checkpoints: Option<&mut Checkpoints>,
        observer: &mut O,
    ) -> Result<Option<Outcome>, O::Error> {
        let step = report.step;
        let diverged = Outcome::Diverged { step, fault };
        match self.config.guard.remedy {
            Remedy::Skip if self.progress.n_skipped_in_a_row < MOST_REMEDIES => {
                self.skip_step();
                observer.skipped(report)?;
                Ok(None)
            }
            Remedy::Back if self.progress.n_rollbacks < MOST_REMEDIES => {
                let Some(checkpoints) = checkpoints else { return Ok(Some(diverged)) };
                let n_rollbacks = self.progress.n_rollbacks + 1;
                let folder = match checkpoints.newest() {
                    Ok(Some(folder)) => folder,
                    Ok(None) => return Ok(Some(diverged)),
                    Err(error) => {
                        observer.checkpoint_failed(&error);
                        return Ok(Some(diverged));
                    }
                };
                if let Err(error) = self.resume(&folder) {
                    return Ok(Some(Outcome::Lost { step, fault, reason: error.to_string() }));
                }
                self.progress.n_rollbacks = n_rollbacks;
                observer.rolled_back(report, &folder, &self.progress)?;
                Ok(None)
            }
            _ => {
                // A training that is resumed from here has as many remedies again.
                self.progress.n_skipped_in_a_row = 0;
                Ok(Some(diverged))
            }
        }
    }

    /// What follows a step: the evaluation and the end of the epoch, where they are due. After an error the progress is that
    /// before it, so that a state which is saved then does all of it again.
    fn settle<O: Observer>(&mut self, observer: &mut O) -> Result<(), O::Error> {
        let before = self.progress.clone();
        let settled = self.evaluate_and_report(observer);
        if settled.is_err() {
            self.progress = before;
        }
        settled
    }

    fn evaluate_and_report<O: Observer>(&mut self, observer: &mut O) -> Result<(), O::Error> {
        let step = self.progress.n_steps - 1;
        let is_last = self.progress.n_steps == self.n_steps_total();
        if is_last || step.is_multiple_of(self.config.train.eval_every) {
            let start = observer.now();
            let mut report = self.evaluate()?;
            report.seconds = (observer.now() - start).as_secs_f64();
            observer.evaluation(&report)?;
            let stopping = &self.config.early_stopping;
            let (best, is_new) = best_after(self.progress.best, step, report.val_loss, stopping.min_change);
            if !is_new || !stopping.is_on() || observer.improved(&self.gpt.on_host(self.dev), &report)? {
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
    ///
    /// # Panics
    /// As [`Trainer::run`].
    pub fn evaluate(&mut self) -> Result<EvaluationReport, ShardError> {
        let train_loss = self.evaluate_split(|splits| &mut splits.train_evaluated, self.config.data.shuffle)?;
        let val_loss = self.evaluate_split(|splits| &mut splits.validation, false)?;
        let Progress { n_steps, epoch, n_tokens_seen, .. } = self.progress;
        let step = n_steps.saturating_sub(1);
        let bits_per_byte = |bytes_per_token: f64| bits_per_byte(f64::from(val_loss), bytes_per_token) as f32;
        let val_bits_per_byte = self.splits.validation_bytes_per_token.map(bits_per_byte);
        let epoch = epoch + 1;
        Ok(EvaluationReport { step, epoch, train_loss, val_loss, val_bits_per_byte, n_tokens_seen, seconds: 0.0 })
    }

    /// The mean of the means of a split's first batches; only PyTorch's script shuffles.
    fn evaluate_split(&mut self, split: fn(&mut Splits) -> &mut Loader, shuffle: bool) -> Result<f32, ShardError> {
        let loader = split(&mut self.splits);
        self.randomness.begin_evaluation(shuffle, loader);
        let (mut sum, mut n) = (0.0, 0);
        while n < self.config.train.eval_batches {
            let n_sequences = loader.next_batch(&mut self.evaluated.inputs, &mut self.evaluated.targets)?;
            if n_sequences == 0 {
                break;
            }
            self.evaluated.n_sequences = n_sequences;
            self.objective.prepare(&mut self.evaluated);
            let (objective, saved) = (self.objective.as_mut(), &mut self.saved_evaluation);
            let loss = self.buffers.evaluate(self.dev, &self.gpt, objective, &self.evaluated, saved);
            sum += loss / self.objective.n_units(&self.evaluated);
            n += 1;
        }
        Ok((sum / f64::from(n as u32)) as f32)
    }
}
