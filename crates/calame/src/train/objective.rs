//! What is trained for: next tokens, classes, preferences.
//!
//! An objective turns hidden states into one loss, in two phases. [`Objective::score`] gives the sum of the targets' losses
//! of each example; [`Objective::weights`] turns these into the loss and its derivative by each sum, which is the weight of
//! every target of that example in backward. Where the loss is just the weighted sum of the targets' losses, the first phase
//! is skipped, and loss and gradient are computed in one pass over the head.

use std::fmt;

use crate::data::Batch;
use crate::model::{self, BatchSlices, Dropout, Gpt, GradientSink, Gradients, Head, ModelConfig, Saved, Scratch};
use crate::ops::{self, Device};
use crate::tensor::Alloc;

/// What a training minimises.
pub trait Objective: fmt::Debug + Send {
    /// The head that it owns, in place of the model's.
    fn head(&self) -> Option<&Head> {
        None
    }

    /// Its head, to be trained and loaded.
    fn head_mut(&mut self) -> Option<&mut Head> {
        None
    }

    /// Completes a batch of windows: targets, weights, segments and groups, which are empty or those of an earlier batch.
    fn prepare(&mut self, batch: &mut Batch) {
        let _ = batch;
    }

    /// What the loss of a batch is divided by; over the batches of a step it adds up to the step's one divisor.
    fn n_units(&self, batch: &Batch) -> f64 {
        batch.total_weight()
    }

    /// Phase one: the sum of the weighted losses of each example's targets, as [`HeadPass::sums`] computes it. None skips
    /// it: the loss is then the sum of the targets' weighted losses.
    fn score<'s>(&mut self, pass: &'s mut HeadPass<'_>) -> Option<&'s [f64]> {
        let _ = pass;
        None
    }

    /// Phase two, where [`score`](Self::score) has given sums: the loss of the batch; its derivative by each sum is pushed to
    /// `weights`, which is empty.
    fn weights(&mut self, batch: &Batch, sums: &[f64], weights: &mut Vec<f32>) -> f64 {
        let _ = (batch, weights);
        sums.iter().sum()
    }
}

/// Next-token prediction with the model's own head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextToken;

impl Objective for NextToken {}

/// The buffers of passes over batches: what forward saves, work space, the batch on the device.
#[derive(Debug)]
pub struct PassBuffers {
    tensors: model::Batch,
    saved: Saved,
    scratch: Scratch,
    losses: Vec<f32>,
    sums: Vec<f64>,
    example_weights: Vec<f32>,
    target_weights: Vec<f32>,
}

/// The sizes of a training's passes.
#[derive(Clone, Copy, Debug)]
pub struct PassSizes {
    /// B of a micro-step.
    pub n_sequences: usize,
    /// T of a micro-step.
    pub n_positions: usize,
    /// R: the most rows B·T of any pass that shares the work space.
    pub n_rows: usize,
    /// Outputs of the head: V, or the classes of an objective.
    pub n_outputs: usize,
    /// The largest rank of the model's adapters.
    pub rank: usize,
}

impl PassBuffers {
    /// Buffers of the given sizes, for micro-steps and evaluations.
    pub fn for_training(config: &ModelConfig, sizes: PassSizes, alloc: &mut Alloc<'_>) -> PassBuffers {
        let PassSizes { n_sequences, n_positions, n_rows, n_outputs, rank } = sizes;
        PassBuffers {
            tensors: model::Batch::new(n_rows, alloc),
            saved: Saved::for_training(config, n_sequences, n_positions, alloc),
            scratch: Scratch::with_outputs(config, n_rows, n_outputs, rank, alloc),
            losses: Vec::new(),
            sums: Vec::new(),
            example_weights: Vec::new(),
            target_weights: Vec::new(),
        }
    }

    /// The sum of a batch's losses, nothing dropped; `saved` was created for evaluation.
    ///
    /// # Panics
    /// If the batch exceeds the capacity or does not fit the model: see [`Gpt::forward`].
    pub fn evaluate(
        &mut self,
        dev: &Device,
        gpt: &Gpt,
        objective: &mut dyn Objective,
        batch: &Batch,
        saved: &mut Saved,
    ) -> f64 {
        self.tensors.load(dev, slices(batch));
        gpt.forward(dev, &self.tensors, &Dropout::Off, saved, &mut self.scratch);
        let PassBuffers { tensors, scratch, losses, sums, example_weights, .. } = self;
        let mut pass = HeadPass { dev, gpt, batch, tensors, saved, scratch, losses, sums };
        if let Some(sums) = objective.score(&mut pass) {
            example_weights.clear();
            return objective.weights(batch, sums, example_weights);
        }
        gpt.head_loss(dev, objective.head(), tensors, saved, scratch)
    }

    /// One micro-step: the batch's loss, not divided; the gradients of the loss times `scale` are added to `grads` and go
    /// to `sink`.
    ///
    /// If the loss that the participants agree on is not finite, no gradient goes to the sink, and `grads` must be zeroed.
    ///
    /// # Panics
    /// As [`evaluate`](Self::evaluate); if the objective returns another number of weights than of sums; as [`Gpt::backward`].
    pub fn micro_step(
        &mut self,
        dev: &Device,
        gpt: &mut Gpt,
        objective: &mut dyn Objective,
        batch: &Batch,
        drop: &Dropout<'_>,
        scale: f32,
        grads: &mut Gradients,
        sink: &mut dyn GradientSink,
    ) -> f64 {
        self.tensors.load(dev, slices(batch));
        gpt.forward(dev, &self.tensors, drop, &mut self.saved, &mut self.scratch);
        let loss = sink.agree(self.loss_and_head_gradient(dev, gpt, objective, batch, scale, grads));
        // The reported loss is the mean in f32: it must be finite too.
        if loss.is_finite() && (loss * f64::from(scale)).abs() <= f64::from(f32::MAX) {
            let (saved, scratch) = (&self.saved, &mut self.scratch);
            gpt.backward(dev, objective.head_mut(), &self.tensors, drop, grads, saved, scratch, sink);
        }
        loss
    }

    /// Both phases of the objective; the gradient of the hidden states is left in the work space.
    fn loss_and_head_gradient(
        &mut self,
        dev: &Device,
        gpt: &Gpt,
        objective: &mut dyn Objective,
        batch: &Batch,
        scale: f32,
        grads: &mut Gradients,
    ) -> f64 {
        let PassBuffers { tensors, saved, scratch, losses, sums, example_weights, target_weights } = self;
        let mut pass = HeadPass { dev, gpt, batch, tensors, saved, scratch, losses, sums };
        let Some(sums) = objective.score(&mut pass) else {
            return gpt.head_loss_backward(dev, objective.head(), tensors, scale, grads, saved, scratch);
        };
        example_weights.clear();
        let loss = objective.weights(batch, sums, example_weights);
        let (n_weights, n_sums) = (example_weights.len(), sums.len());
        assert!(n_weights == n_sums, "Objective::weights of {objective:?}: {n_weights} weights for {n_sums} examples");
        target_weights.clear();
        for (rows, &weight) in batch.examples().zip(&*example_weights) {
            match batch.weights.get(rows.clone()) {
                Some(weights) if !weights.is_empty() => target_weights.extend(weights.iter().map(|w| w * weight)),
                _ => target_weights.extend(rows.map(|_| weight)),
            }
        }
        tensors.set_weights(dev, Some(target_weights));
        gpt.head_loss_backward(dev, objective.head(), tensors, scale, grads, saved, scratch);
        loss
    }
}

/// The hidden states of a batch, for an objective's first phase.
#[derive(Debug)]
pub struct HeadPass<'a> {
    dev: &'a Device,
    gpt: &'a Gpt,
    batch: &'a Batch,
    tensors: &'a model::Batch,
    saved: &'a Saved,
    scratch: &'a mut Scratch,
    losses: &'a mut Vec<f32>,
    sums: &'a mut Vec<f64>,
}

impl HeadPass<'_> {
    /// The sum of the weighted losses of each example's targets under a head: the objective's own, or without one the
    /// model's. The negative log-likelihood of the example, in nats.
    ///
    /// # Panics
    /// As [`Gpt::head_loss`].
    pub fn sums(&mut self, own: Option<&Head>) -> &[f64] {
        let HeadPass { dev, gpt, batch, tensors, saved, scratch, losses, sums } = self;
        gpt.head_loss(dev, own, tensors, saved, scratch);
        losses.resize(tensors.n_rows(), 0.0);
        ops::read_into(dev, scratch.losses(), losses);
        sums.clear();
        let weighted = |row: usize| f64::from(losses[row]) * batch.weights.get(row).map_or(1.0, |&w| f64::from(w));
        sums.extend(batch.examples().map(|rows| rows.map(weighted).sum::<f64>()));
        sums
    }
}

/// A batch as the model reads it.
fn slices(batch: &Batch) -> BatchSlices<'_> {
    BatchSlices {
        inputs: &batch.inputs,
        targets: &batch.targets,
        weights: (!batch.weights.is_empty()).then_some(&batch.weights),
        segments: (!batch.segments.is_empty()).then_some(&batch.segments),
        n_sequences: batch.n_sequences,
    }
}
