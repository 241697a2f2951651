//! The loss under a head, of the hidden states that forward left.

use super::gpt::{Gpt, Saved, Scratch};
use super::head::Head;
use super::{Batch, Dropout, GradientSink, Gradients};
use crate::ops::{self, Device};
use crate::tensor::Tensor;

impl Gpt {
    /// The sum of the targets' weighted losses under a head, of hidden states that [`Gpt::forward`] left in `saved`.
    ///
    /// `own` is a head in the place of the model's.
    ///
    /// # Panics
    /// If the sizes do not agree, exceed the capacity of `scratch`, or a target with a weight is outside the vocabulary.
    pub fn head_loss(
        &self,
        dev: &Device,
        own: Option<&Head>,
        batch: &Batch,
        saved: &Saved,
        scratch: &mut Scratch,
    ) -> f64 {
        let absent = Tensor::absent();
        let (weight, bias) = own.map_or((self.head(), &absent), |head| (&head.weight, &head.bias));
        let (targets, weights) = (batch.targets(), batch.weights());
        ops::lm_head_loss_forward(dev, saved.hidden(), weight, bias, targets, weights, &mut scratch.loss)
    }

    /// As [`head_loss`](Self::head_loss); the gradients of the sum times `scale` are added to the head's in `grads`, and
    /// that of the hidden states is left in `scratch` for [`Gpt::backward`].
    ///
    /// # Panics
    /// As [`head_loss`](Self::head_loss); also if `grads` lacks a gradient of the head, or the sink still has it.
    pub fn head_loss_backward(
        &self,
        dev: &Device,
        own: Option<&Head>,
        batch: &Batch,
        scale: f32,
        grads: &mut Gradients,
        saved: &Saved,
        scratch: &mut Scratch,
    ) -> f64 {
        let absent = Tensor::absent();
        let mut no_bias = Tensor::absent();
        let (weight, bias) = own.map_or((self.head(), &absent), |head| (&head.weight, &head.bias));
        let (dweight, dbias) = match own {
            Some(_) => grads.own_head(),
            None => (grads.lm_head(self.config.tied_head), &mut no_bias),
        };
        let Scratch { dy, loss, .. } = scratch;
        let (targets, weights) = (batch.targets(), batch.weights());
        let hidden = saved.hidden();
        ops::lm_head_loss_forward_backward(dev, hidden, weight, bias, targets, weights, scale, dy, dweight, dbias, loss)
    }

    /// The sum over the targets of the weighted next-token loss, nothing dropped.
    ///
    /// # Panics
    /// As [`Gpt::forward`] and [`head_loss`](Self::head_loss).
    pub fn loss(&self, dev: &Device, batch: &Batch, saved: &mut Saved, scratch: &mut Scratch) -> f64 {
        self.forward(dev, batch, &Dropout::Off, saved, scratch);
        self.head_loss(dev, None, batch, saved, scratch)
    }

    /// One micro-step of next-token prediction: the sum of the weighted losses; the gradients of that sum times `scale` are
    /// added to `grads` and go to `sink` part by part, as [`Gpt::backward`] says.
    ///
    /// `scale` is one over the targets' weights in the step's whole batch. If the loss that the participants agree on is
    /// not finite, no gradient goes to the sink, and `grads` must be [zeroed](Gradients::zero).
    ///
    /// # Panics
    /// As [`Gpt::forward`], [`head_loss_backward`](Self::head_loss_backward) and [`Gpt::backward`].
    pub fn forward_backward(
        &mut self,
        dev: &Device,
        batch: &Batch,
        drop: &Dropout<'_>,
        scale: f32,
        grads: &mut Gradients,
        saved: &mut Saved,
        scratch: &mut Scratch,
        sink: &mut dyn GradientSink,
    ) -> f64 {
        self.forward(dev, batch, drop, saved, scratch);
        let loss = sink.agree(self.head_loss_backward(dev, None, batch, scale, grads, saved, scratch));
        if loss.is_finite() {
            self.backward(dev, None, batch, drop, grads, saved, scratch, sink);
        }
        loss
    }
}
