//! Backward through the blocks: each part's gradient goes to the sink as soon as it is final.

use super::Batch;
use super::dropout::{Dropout, Site};
use super::gpt::{Gpt, Saved, Scratch};
use super::gradients::{GradientSink, Gradients, PartGradient, Weights};
use super::head::Head;
use super::trainable::Part;
use crate::ops::{self, Device};

impl Gpt {
    /// Backward of [`Gpt::forward`] from the gradient of the hidden states, which the head's loss left in `scratch`.
    ///
    /// The gradients of each part are added to its buffer in `grads`. As soon as one is final and its weights are not read
    /// any more, it goes to `sink`: the head first, then blocks from the last to the first that is trained, the embeddings
    /// last (a tied head is final with them). `own_head`, the head that the objective owns, is only passed to the sink.
    ///
    /// # Panics
    /// If `saved` was created for evaluation, or the sink neither returns a buffer nor lets it be reclaimed.
    pub fn backward(
        &mut self,
        dev: &Device,
        own_head: Option<&mut Head>,
        batch: &Batch,
        drop: &Dropout<'_>,
        grads: &mut Gradients,
        saved: &Saved,
        scratch: &mut Scratch,
        sink: &mut dyn GradientSink,
    ) {
        assert_eq!(saved.h.len(), self.h.len(), "Gpt::backward: `saved` is one of evaluation");
        let Scratch { block: block_scratch, dx, dy, .. } = scratch;
        let (n_layer, first_block) = (self.h.len(), grads.trainable().first_block);
        assert!(
            !sink.returns_unchanged() || grads.n_buffers() >= n_layer.saturating_sub(first_block),
            "Gpt::backward: {} buffers for blocks {first_block}..{n_layer}, whose gradients come back unchanged",
            grads.n_buffers()
        );
        ops::fill(dev, 0.0, dx);

        let mut weights = Weights { gpt: self, own_head };
        let mut gradient = grads.wait_for(Part::Head, dev, weights.reborrow(), sink);
        if let PartGradient::Head(grad) = &mut gradient {
            weights.gpt.ln_f.backward_add(dev, dy, &saved.x[n_layer], &saved.ln_f, dx, &mut grad.ln_f);
        }
        pass_on(dev, weights.reborrow(), gradient, grads, sink);
        for i in (first_block..n_layer).rev() {
            let mut gradient = grads.wait_for(Part::Block(i), dev, weights.reborrow(), sink);
            if let PartGradient::Block(_, grad) = &mut gradient {
                let (x, saved) = (&saved.x[i], &saved.h[i]);
                weights.gpt.h[i].backward_add(dev, i, dx, x, batch.starts(), drop, saved, grad, block_scratch);
            }
            pass_on(dev, weights.reborrow(), gradient, grads, sink);
        }
        if first_block > 0 {
            return;
        }
        if let Some(mask) = drop.mask(0, Site::Embedding) {
            ops::drop_in_place(dev, &mask, batch.n_positions(), dx);
        }
        let mut gradient = grads.wait_for(Part::Embeddings, dev, weights.reborrow(), sink);
        if let PartGradient::Embeddings(grad) = &mut gradient {
            let (inputs, positions) = (&batch.inputs, &batch.positions);
            ops::embedding_backward(dev, inputs, positions, dx, &mut grad.wte, &mut grad.wpe, &mut grad.touched);
        }
        pass_on(dev, weights, gradient, grads, sink);
    }
}

fn pass_on(
    dev: &Device,
    weights: Weights<'_>,
    gradient: PartGradient,
    grads: &mut Gradients,
    sink: &mut dyn GradientSink,
) {
    if let Some(returned) = sink.accept(dev, weights, gradient) {
        grads.put(returned);
    }
}
