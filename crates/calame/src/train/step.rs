//! One step: the gradients of its batches, a look at them, the update.

use super::Trainer;
use super::config::LossAverage;
use super::guard::{self, Trouble};
use super::report::StepReport;
use crate::checkpoint::Progress;
use crate::data::ShardError;
use crate::model::{Dropout, Gpt, Part};
use crate::ops;
use crate::rng::{self, Purpose};

/// What PyTorch's `clip_grad_norm_` adds to a norm before it divides by it.
const NORM_EPS: f64 = 1e-6;

impl Trainer<'_> {
    /// One optimizer step on the next `train.accumulate` batches, fewer at the end of an epoch. Allocates nothing after the
    /// first; where a last batch that is not full is kept, nothing after the first of each size.
    ///
    /// If the step went bad, the report says so, and neither weights, moments nor the place in the data and in what is drawn
    /// change.
    ///
    /// # Errors
    /// If a batch cannot be read, which happens only where its tokens are in files; nothing has changed then either.
    pub fn step(&mut self) -> Result<StepReport, ShardError> {
        let script = self.progress.torch.clone();
        self.begin_epoch_if_due();
        let (n_batches, n_tokens) = self.size_of_step();
        let Progress { n_steps, n_skipped, epoch, .. } = self.progress;
        let lr = self.lr();
        self.optimizer.begin_step(n_steps - n_skipped, lr);
        let whole = self.config.looks_at_gradients();
        let loss = match self.gradients(n_batches, n_tokens) {
            Ok(loss) => loss,
            Err(error) => {
                self.forget_step();
                self.progress.torch = script;
                return Err(error);
            }
        };
        let mut grad_norm = None;
        let trouble = if !loss.is_finite() {
            Some(Trouble::Loss(loss))
        } else if whole {
            let norm = self.norm();
            grad_norm = Some(norm as f32);
            self.trouble(loss, norm)
        } else {
            None
        };
        if trouble.is_some() {
            self.forget_step();
            self.progress.torch = script;
        } else {
            if let Some(norm) = grad_norm {
                self.update(norm);
                guard::remember(&mut self.progress.usual, loss, norm);
            }
            self.progress.n_steps += 1;
            self.progress.n_skipped_in_a_row = 0;
            self.progress.batch += n_batches;
            self.progress.n_tokens_seen += n_tokens as u64;
            self.progress.settled = false;
        }
        let n_tokens_seen = self.progress.n_tokens_seen;
        let (step, epoch, step_seconds) = (n_steps, epoch + 1, 0.0);
        Ok(StepReport { step, epoch, loss, lr, grad_norm, trouble, n_tokens, n_tokens_seen, step_seconds })
    }

    /// The learning rate of the next step.
    fn lr(&self) -> f64 {
        let (n_steps, n_backs) = (self.progress.n_steps, self.progress.n_backs);
        let lr = self.config.train.lr * self.config.schedule.factor(n_steps, self.n_steps_in_all());
        // No multiplication where nothing was taken back: the rate is the configured one to the bit.
        if n_backs == 0 { lr } else { lr * self.config.guard.lr_factor.powi(n_backs as i32) }
    }

    /// Batches and tokens of the next step.
    fn size_of_step(&self) -> (usize, usize) {
        let (loader, first) = (&self.splits.train, self.progress.batch);
        let last = first.saturating_add(self.config.train.accumulate).min(loader.n_batches());
        let n_sequences: usize = (first..last).map(|batch| loader.n_rows(batch)).sum();
        (last - first, n_sequences * loader.window())
    }

    /// Forward and backward of the step's batches; the loss of all of them. After a loss that is not finite the gradients are
    /// of no use.
    fn gradients(&mut self, n_batches: usize, n_tokens: usize) -> Result<f32, ShardError> {
        let (config, whole) = (&self.config.train, self.config.looks_at_gradients());
        let (mut loss, mut first_sequence) = (0.0, 0);
        for i in 0..n_batches {
            let n_sequences = self.splits.train.next_batch(&mut self.inputs, &mut self.targets)?;
            let n_here = self.inputs.len();
            let divisor = match config.loss_average {
                LossAverage::Token => n_tokens,
                LossAverage::Book => n_batches * n_here,
            };
            let key = rng::stream(config.seed, Purpose::Dropout, self.progress.n_steps);
            let drop = match (&mut self.masks, &mut self.progress.torch) {
                (Some(masks), Some(script)) => masks.draw(script.generator(), n_sequences, n_here / n_sequences),
                _ => Dropout::of_step(key, first_sequence, self.gpt.config.dropout),
            };
            self.optimizer.touch(&self.inputs);
            let (dev, optimizer, updates) = (self.dev, &mut self.optimizer, !whole && i + 1 == n_batches);
            let sum = self.gpt.forward_backward(
                dev,
                &self.inputs,
                &self.targets,
                n_sequences,
                &drop,
                1.0 / divisor as f32,
                &mut self.grad,
                &mut self.saved,
                &mut self.scratch,
                &mut |part, weights, grad| {
                    if updates {
                        optimizer.update(dev, part, weights, grad);
                    }
                },
            );
            loss += sum / divisor as f64;
            if !loss.is_finite() {
                break;
            }
            first_sequence += n_sequences as u32;
        }
        Ok(loss as f32)
    }

    /// The norm of the whole gradient.
    fn norm(&self) -> f64 {
        self.grad.tensors().map(|(_, grad)| ops::sum_of_squares(self.dev, grad)).sum::<f64>().sqrt()
    }

    /// What is wrong with a step of a finite loss.
    fn trouble(&self, loss: f32, norm: f64) -> Option<Trouble> {
        if !norm.is_finite() {
            let bad = self.grad.tensors().find(|(_, grad)| !ops::sum_of_squares(self.dev, grad).is_finite());
            return bad.map(|(name, _)| Trouble::Gradient(name));
        }
        guard::outlier(&self.progress.usual, loss, norm as f32, self.config.guard.z_score)
    }

    /// Gives the whole gradient to the optimizer, clipped to `train.clip_norm`.
    fn update(&mut self, norm: f32) {
        let clip = self.config.train.clip_norm;
        if clip > 0.0 {
            self.optimizer.scale_gradients((clip / (f64::from(norm) + NORM_EPS)).min(1.0) as f32);
        }
        let blocks = (0..self.gpt.config.n_layer).rev().map(Part::Block);
        for part in std::iter::once(Part::Head).chain(blocks).chain([Part::Embeddings]) {
            self.optimizer.update(self.dev, part, &mut self.gpt, &mut self.grad);
        }
    }

    /// Takes back what a step without an update has left: gradients, and a loader some batches further on.
    fn forget_step(&mut self) {
        zero(&mut self.grad);
        self.epoch_begun = false;
    }

    /// Passes over the batches of a step that went bad.
    pub(super) fn pass_over(&mut self) {
        self.begin_epoch_if_due();
        let (n_batches, _) = self.size_of_step();
        self.progress.n_steps += 1;
        self.progress.n_skipped += 1;
        self.progress.n_skipped_in_a_row += 1;
        self.progress.batch += n_batches;
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
        let loader = &mut self.splits.train;
        let (epoch, n, shuffle) = (self.progress.epoch, loader.n_windows(), self.config.data.shuffle);
        if let Some(script) = &mut self.progress.torch {
            script.begin_epoch(epoch, n, shuffle, &mut self.order);
            loader.start_epoch(Some(&self.order));
        } else if shuffle && loader.is_long() {
            loader.start_shuffled(rng::Shuffle::of_epoch(self.config.train.seed, epoch, n as u64));
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
}

/// Sets what is not zero to zero: rows that never had a gradient go on taking no memory.
fn zero(grad: &mut Gpt) {
    for (_, tensor) in grad.tensors_mut() {
        let pieces = tensor.as_mut_slice().chunks_mut(1024);
        pieces.filter(|piece| piece.iter().any(|x| x.to_bits() != 0)).for_each(|piece| piece.fill(0.0));
    }
}
