//! Head, softmax and cross-entropy, by chunks of rows, so that logits [B·T, V] never exist whole.

use std::ops::Range;

use super::linear::product;
use super::{Device, Epilogue, Init, Phase, Work};
use crate::tensor::{Alloc, Tensor};

/// Rows of logits [R, V] that exist at a time: half of the batch's, so that the head is packed and its gradient added to twice a
/// step, within bounds: 1024 rows of GPT-2's vocabulary take 206 MB.
pub fn chunk_rows(n_rows: usize) -> usize {
    n_rows.div_ceil(2).clamp(256, 1024)
}

/// Work space of a head and its loss.
#[derive(Debug)]
pub struct LossScratch {
    logits: Tensor,
    /// The loss of each row, [B·T].
    losses: Tensor,
}

impl LossScratch {
    /// For up to `n_rows` rows and a vocabulary, or classes, of `n_vocab`.
    pub fn new(n_rows: usize, n_vocab: usize, alloc: &mut Alloc<'_>) -> LossScratch {
        LossScratch { logits: alloc.zeros([chunk_rows(n_rows).min(n_rows), n_vocab]), losses: alloc.zeros([n_rows]) }
    }

    /// The loss of each row of the last call, \[R\]: not weighted, 0 where the weight is 0.
    pub fn losses(&self) -> &Tensor {
        &self.losses
    }
}

/// The sum of the rows' losses, for hidden states x [R, C] and a head [V, C].
///
/// `targets` (ids `[R]`) are not read where their weight is 0. Without `weights` `[R]` every row counts as 1.
///
/// # Panics
/// If the sizes do not agree or exceed the capacity of `scratch`, a target with a weight is outside the vocabulary, or a
/// tensor is not on the device.
pub fn lm_head_loss_forward(
    dev: &Device,
    x: &Tensor,
    head: &Tensor,
    bias: &Tensor,
    targets: &Tensor,
    weights: Option<&Tensor>,
    scratch: &mut LossScratch,
) -> f64 {
    for_chunks(dev, x, head, bias, targets, weights, None, scratch, |_, _| {})
}

/// As [`lm_head_loss_forward`], with the gradients of the sum times `scale`: dx overwritten, dhead and dbias added to.
///
/// # Panics
/// If the sizes do not agree or exceed the capacity of `scratch`, a target with a weight is outside the vocabulary, or a
/// tensor is not on the device.
pub fn lm_head_loss_forward_backward(
    dev: &Device,
    x: &Tensor,
    head: &Tensor,
    bias: &Tensor,
    targets: &Tensor,
    weights: Option<&Tensor>,
    scale: f32,
    dx: &mut Tensor,
    dhead: &mut Tensor,
    dbias: &mut Tensor,
    scratch: &mut LossScratch,
) -> f64 {
    for_chunks(dev, x, head, bias, targets, weights, Some(scale), scratch, |rows, dlogits| {
        let dx = dx.view_mut().rows(rows.clone());
        product(dev, Phase::HeadBackwardInput, dlogits.view(), head.view(), dx, Init::Zero, Epilogue::None);
        if !dhead.is_empty() {
            let (phase, x) = (Phase::HeadBackwardWeight, x.view().rows(rows));
            product(dev, phase, dlogits.view().t(), x, dhead.view_mut(), Init::Add, Epilogue::None);
        }
        if !dbias.is_empty() {
            let work = Work::passes(dlogits.len());
            dev.run(Phase::HeadBackwardWeight, work, |on| on.sum_rows_add(dlogits, dbias));
        }
    })
}

/// Computes the logits and losses of a chunk of rows at a time and passes the logits, or with `scale` their gradients, to
/// `f` with the rows' range; returns the weighted sum of the losses.
fn for_chunks(
    dev: &Device,
    x: &Tensor,
    head: &Tensor,
    bias: &Tensor,
    targets: &Tensor,
    weights: Option<&Tensor>,
    scale: Option<f32>,
    scratch: &mut LossScratch,
    mut f: impl FnMut(Range<usize>, &Tensor),
) -> f64 {
    let LossScratch { logits, losses } = scratch;
    let (n_rows, chunk) = (targets.len(), chunk_rows(targets.len()));
    losses.set_rows(n_rows);
    let init = if bias.is_empty() { Init::Zero } else { Init::Bias(bias) };
    for from in (0..n_rows).step_by(chunk) {
        let rows = from..(from + chunk).min(n_rows);
        logits.set_rows(rows.len());
        let x = x.view().rows(rows.clone());
        product(dev, Phase::HeadForward, x, head.view().t(), logits.view_mut(), init, Epilogue::None);
        let (targets, losses) = (targets.view().rows(rows.clone()), losses.view_mut().rows(rows.clone()));
        let weights = weights.map(|weights| weights.view().rows(rows.clone()));
        dev.run(Phase::Loss, Work::passes(2 * logits.len()), |on| {
            on.cross_entropy(logits, targets, weights, losses, scale);
        });
        f(rows, logits);
    }
    dev.run(Phase::Loss, Work::passes(n_rows), |on| on.sum_losses(losses, weights, n_rows))
}
