//! One step: the gradients of its batches, the checks that the settings ask for, the update.

use super::Trainer;
use super::config::LossAverage;
use super::gradient_plan::GradientPlan;
use super::guard::{self, StepFault};
use super::participants::Agreed;
use super::report::StepReport;
use crate::data::ShardError;
use crate::model::{GradientSink, Part, ReturnAll, Weights};
use crate::ops;

/// What PyTorch's `clip_grad_norm_` adds to a norm before it divides by it.
const NORM_EPS: f64 = 1e-6;

impl Trainer<'_> {
    /// One optimizer step on the next `train.accumulate` batches, fewer at the end of an epoch. Allocates nothing after the
    /// first; where a last batch that is not full is kept, nothing after the first of each size.
    ///
    /// If the step fails, the report says why, and neither weights, moments nor the position in the data and in the random
    /// numbers change.
    ///
    /// # Errors
    /// If a batch cannot be read, which happens only where its tokens are in files; nothing has changed then either.
    ///
    /// # Panics
    /// As [`Trainer::run`].
    pub fn step(&mut self) -> Result<StepReport, ShardError> {
        self.randomness.mark();
        self.begin_epoch_if_due();
        let (n_batches, n_tokens) = match self.read_batches() {
            Ok(sizes) => sizes,
            Err(error) => {
                self.undo_step(false);
                return Err(error);
            }
        };
        let lr = self.lr();
        let loss = self.gradients(n_batches, lr);
        let (grad_norm, fault) = self.examine(loss);
        let (step, epoch) = (self.progress.n_steps, self.progress.epoch + 1);
        if fault.is_some() {
            self.undo_step(true);
        } else {
            if let Some(norm) = grad_norm {
                self.update_from_whole(lr, norm);
                guard::remember(&mut self.progress.usual, loss, norm);
            }
            self.progress.n_steps += 1;
            self.progress.n_skipped_in_a_row = 0;
            self.progress.batch += n_batches;
            self.progress.n_tokens_seen += n_tokens as u64;
            self.progress.settled = false;
        }
        let n_tokens_seen = self.progress.n_tokens_seen;
        Ok(StepReport { step, epoch, loss, lr, grad_norm, fault, n_tokens, n_tokens_seen, step_seconds: 0.0 })
    }

    /// The learning rate of the next step.
    fn lr(&self) -> f64 {
        let (n_steps, n_rollbacks) = (self.progress.n_steps, self.progress.n_rollbacks);
        let lr = self.config.train.lr * self.config.schedule.factor(n_steps, self.n_steps_total());
        // No multiplication without a rollback: the rate is the configured one to the bit.
        if n_rollbacks == 0 { lr } else { lr * self.config.guard.lr_factor.powi(n_rollbacks as i32) }
    }

    /// Reads the batches of the next step; their number and their tokens.
    fn read_batches(&mut self) -> Result<(usize, usize), ShardError> {
        let n_batches = self.n_batches_of_step();
        self.batches.resize_with(n_batches.max(self.batches.len()), Default::default);
        let mut n_tokens = 0;
        for batch in &mut self.batches[..n_batches] {
            batch.n_sequences = self.splits.train.next_batch(&mut batch.inputs, &mut batch.targets)?;
            self.objective.prepare(batch);
            n_tokens += batch.inputs.len();
        }
        Ok((n_batches, n_tokens))
    }

    /// Batches of the next step: fewer than `train.accumulate` at the end of an epoch.
    fn n_batches_of_step(&self) -> usize {
        let left = self.splits.train.n_batches() - self.progress.batch;
        left.min(self.config.train.accumulate)
    }

    /// Forward and backward of the step's batches, and with some plans the update; the loss of all of them. After a loss
    /// that is not finite the gradients are of no use.
    fn gradients(&mut self, n_batches: usize, lr: f64) -> f32 {
        let (dev, config) = (self.dev, &self.config.train);
        let batches = &self.batches[..n_batches];
        let n_units: f64 = batches.iter().map(|batch| self.objective.n_units(batch)).sum();
        let n_units = self.participants.agree_on_units(n_units);
        // Without a target that counts there is no mean, and nothing to learn from.
        if n_units.is_nan() || n_units <= 0.0 {
            return f32::NAN;
        }
        let n_updates = self.progress.n_steps - self.progress.n_skipped;
        let (mut loss, mut first_sequence) = (0.0, 0);
        for (i, batch) in batches.iter().enumerate() {
            let divisor = match config.loss_average {
                LossAverage::Token => n_units,
                LossAverage::Book => n_batches as f64 * self.objective.n_units(batch),
            };
            let (n_sequences, n_positions) = (batch.n_sequences, batch.n_positions());
            let drop = self.randomness.dropout(self.progress.n_steps, first_sequence, n_sequences, n_positions);
            let updates = self.plan != GradientPlan::Whole && i + 1 == n_batches;
            let (mut update, mut keep) = (None, ReturnAll);
            let sink: &mut dyn GradientSink =
                if updates { update.insert(self.optimizer.begin(n_updates, lr, 1.0)) } else { &mut keep };
            let sink = &mut Agreed { sink, participants: self.participants.as_mut() };
            let (gpt, objective, scale) = (&mut self.gpt, self.objective.as_mut(), 1.0 / divisor as f32);
            let sum = self.buffers.micro_step(dev, gpt, objective, batch, &drop, scale, &mut self.grads, sink);
            self.grads.drain(dev, Weights { gpt, own_head: objective.head_mut() }, sink);
            loss += sum / divisor;
            if !loss.is_finite() {
                break;
            }
            first_sequence += n_sequences as u32;
        }
        loss as f32
    }

    /// The norm of the gradient, where the plan holds it whole, and what is wrong with the step.
    fn examine(&mut self, loss: f32) -> (Option<f32>, Option<StepFault>) {
        if !loss.is_finite() {
            return (None, Some(StepFault::Loss(loss)));
        }
        if self.plan != GradientPlan::Whole {
            return (None, None);
        }
        // Each sum comes from the device: absent gradients are not asked for theirs.
        let present = self.grads.tensors().filter(|(_, grad)| !grad.is_empty());
        let squares = present.map(|(_, grad)| ops::sum_of_squares(self.dev, grad)).sum();
        let norm = self.participants.agree_on_squares(squares).sqrt();
        (Some(norm as f32), self.fault(loss, norm))
    }

    /// What is wrong with a step of a finite loss.
    fn fault(&self, loss: f32, norm: f64) -> Option<StepFault> {
        if !norm.is_finite() {
            let bad = self.grads.tensors().find(|(_, grad)| !ops::sum_of_squares(self.dev, grad).is_finite());
            // Without one here it is another participant's.
            return Some(bad.map_or(StepFault::Norm(norm as f32), |(name, _)| StepFault::Gradient(name)));
        }
        guard::outlier(&self.progress.usual, loss, norm as f32, self.config.guard.z_score)
    }

    /// Updates the weights from the whole gradient, clipped to `train.clip_norm`.
    fn update_from_whole(&mut self, lr: f64, norm: f32) {
        let clip = self.config.train.clip_norm;
        let grad_scale = if clip > 0.0 { (clip / (f64::from(norm) + NORM_EPS)).min(1.0) as f32 } else { 1.0 };
        let n_updates = self.progress.n_steps - self.progress.n_skipped;
        let mut update = self.optimizer.begin(n_updates, lr, grad_scale);
        let first_block = self.grads.trainable().first_block;
        let blocks = (first_block..self.gpt.config.n_layer).rev().map(Part::Block);
        let last = (first_block == 0).then_some(Part::Embeddings);
        for part in std::iter::once(Part::Head).chain(blocks).chain(last) {
            let mut gradient =
                self.grads.take(part).unwrap_or_else(|| panic!("step: the gradient of {part:?} is away"));
            let weights = Weights { gpt: &mut self.gpt, own_head: self.objective.head_mut() };
            update.apply(self.dev, weights, &mut gradient);
            self.grads.put(gradient);
        }
    }

    /// Undoes what a step without an update has left: random numbers drawn, batches read, gradients.
    fn undo_step(&mut self, has_gradients: bool) {
        if has_gradients {
            self.grads.zero(self.dev);
        }
        self.randomness.roll_back();
        self.epoch_begun = false;
    }

    /// Skips the batches of a failed step.
    pub(super) fn skip_step(&mut self) {
        self.begin_epoch_if_due();
        self.progress.n_steps += 1;
        self.progress.n_skipped += 1;
        self.progress.n_skipped_in_a_row += 1;
        self.progress.batch += self.n_batches_of_step();
        self.progress.settled = false;
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
        let (loader, shuffle) = (&mut self.splits.train, self.config.data.shuffle);
        self.randomness.begin_epoch(self.progress.epoch, shuffle, loader);
        // The position was taken from this loader, or compared with it in `resume`.
        loader.seek(self.progress.batch).expect("a position inside the epoch");
        self.epoch_begun = true;
    }
}
