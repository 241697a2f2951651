//! Head, softmax and cross-entropy, by chunks of rows, so that logits [B·T, V] never exist whole.

use std::ops::Range;

use calame_kernels::{self as kernels, Init, MatMut, MatRef};

use super::linear::{matrix, matrix_mut};
use super::{Device, Phase, Work};
use crate::tensor::{Rooms, Tensor};

/// Rows of logits [R, V] that exist at a time: half of the batch's, so that the head is packed and its gradient added to twice a
/// step, within bounds: 1024 rows of GPT-2's vocabulary take 206 MB.
pub fn chunk_rows(n_rows: usize) -> usize {
    n_rows.div_ceil(2).clamp(256, 1024)
}

/// Work space of the classifier.
#[derive(Debug)]
pub struct ClassifierScratch {
    logits: Tensor,
    /// The loss of each row, [B·T].
    losses: Vec<f32>,
}

impl ClassifierScratch {
    /// For up to `n_rows` rows and a vocabulary of `n_vocab`.
    pub fn new(n_rows: usize, n_vocab: usize, rooms: &mut Rooms) -> ClassifierScratch {
        ClassifierScratch { logits: rooms.zeros([chunk_rows(n_rows).min(n_rows), n_vocab]), losses: rooms.list(n_rows) }
    }

    /// The loss of each of the first `n_rows` rows of the last call.
    pub fn losses(&self, n_rows: usize) -> &[f32] {
        &self.losses[..n_rows]
    }
}

/// The sum of the rows' losses, for hidden states x [R, C] and head [V, C].
pub fn classifier_forward(
    dev: &Device,
    x: &Tensor,
    head: &Tensor,
    targets: &[u32],
    scratch: &mut ClassifierScratch,
) -> f64 {
    for_chunks(dev, x, head, targets, scratch, |_, targets, logits, losses| {
        dev.run(Phase::Loss, Work::passes(2 * logits.len()), |pool| {
            kernels::cross_entropy_forward(pool, logits.as_mut_slice(), targets, None, losses);
        });
    })
}

/// As [`classifier_forward`], with the gradients of the losses' sum times `scale`: dx overwritten, dhead added to.
pub fn classifier_forward_backward(
    dev: &Device,
    x: &Tensor,
    head: &Tensor,
    targets: &[u32],
    scale: f32,
    dx: &mut Tensor,
    dhead: &mut Tensor,
    scratch: &mut ClassifierScratch,
) -> f64 {
    for_chunks(dev, x, head, targets, scratch, |rows, targets, logits, losses| {
        dev.run(Phase::Loss, Work::passes(2 * logits.len()), |pool| {
            kernels::cross_entropy_forward_backward(pool, logits.as_mut_slice(), targets, None, losses, scale);
        });
        let (n, c) = (rows.len(), x.row_len());
        let elements = rows.start * c..rows.end * c;
        let dx = MatMut::dense(&mut dx.as_mut_slice()[elements.clone()], n, c);
        let work = Work::product(n, head.n_rows(), c);
        dev.run(Phase::HeadBackwardInput, work, |pool| {
            kernels::gemm(pool, dev.precision(), matrix(logits), matrix(head), dx, Init::Zero);
        });
        if !dhead.is_empty() {
            let x = MatRef::dense(&x.as_slice()[elements], n, c);
            dev.run(Phase::HeadBackwardWeight, work, |pool| {
                kernels::gemm(pool, dev.precision(), matrix(logits).t(), x, matrix_mut(dhead), Init::Add);
            });
        }
    })
}

/// Makes the logits of a chunk of rows at a time and hands them on, with the rows' numbers, targets and room for their
/// losses; the sum of the losses.
fn for_chunks(
    dev: &Device,
    x: &Tensor,
    head: &Tensor,
    targets: &[u32],
    scratch: &mut ClassifierScratch,
    mut f: impl FnMut(Range<usize>, &[u32], &mut Tensor, &mut [f32]),
) -> f64 {
    let c = x.row_len();
    let ClassifierScratch { logits, losses } = scratch;
    let chunk = chunk_rows(targets.len());
    for from in (0..targets.len()).step_by(chunk) {
        let rows = from..(from + chunk).min(targets.len());
        logits_of(dev, &x.as_slice()[from * c..rows.end * c], head, logits);
        f(rows.clone(), &targets[rows.clone()], logits, &mut losses[rows]);
    }
    losses[..targets.len()].iter().map(|&loss| f64::from(loss)).sum()
}

fn logits_of(dev: &Device, x: &[f32], head: &Tensor, logits: &mut Tensor) {
    let c = head.row_len();
    logits.set_rows(x.len() / c);
    let x = MatRef::dense(x, x.len() / c, c);
    let work = Work::product(logits.n_rows(), c, head.n_rows());
    dev.run(Phase::HeadForward, work, |pool| {
        kernels::gemm(pool, dev.precision(), x, matrix(head).t(), matrix_mut(logits), Init::Zero);
    });
}
