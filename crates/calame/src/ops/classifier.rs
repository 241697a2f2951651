//! Head, softmax and cross-entropy, by chunks of rows, so that logits [B·T, V] never exist whole.

use std::ops::Range;

use calame_kernels::{self as kernels, MatMut, MatRef, Start};

use super::{Device, matrix, matrix_mut};
use crate::tensor::Tensor;

/// Rows of logits that exist at a time: 51 MB of them at GPT-2's vocabulary.
const CHUNK_ROWS: usize = 256;

/// Work space of the classifier.
#[derive(Debug)]
pub struct ClassifierScratch {
    logits: Tensor,
    /// The loss of each row, [B·T].
    losses: Vec<f32>,
}

impl ClassifierScratch {
    /// For up to `n_rows` rows and a vocabulary of `n_vocab`.
    pub fn new(n_rows: usize, n_vocab: usize) -> ClassifierScratch {
        ClassifierScratch { logits: Tensor::zeros([CHUNK_ROWS.min(n_rows), n_vocab]), losses: vec![0.0; n_rows] }
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
        kernels::cross_entropy_forward(&dev.pool, logits.as_mut_slice(), targets, losses);
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
        kernels::cross_entropy_forward_backward(&dev.pool, logits.as_mut_slice(), targets, losses, scale);
        let (n, c) = (rows.len(), x.row_len());
        let elements = rows.start * c..rows.end * c;
        let dx = MatMut::dense(&mut dx.as_mut_slice()[elements.clone()], n, c);
        kernels::gemm(&dev.pool, matrix(logits), matrix(head), dx, Start::Zero);
        if !dhead.is_empty() {
            let x = MatRef::dense(&x.as_slice()[elements], n, c);
            kernels::gemm(&dev.pool, matrix(logits).t(), x, matrix_mut(dhead), Start::Add);
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
    for from in (0..targets.len()).step_by(CHUNK_ROWS) {
        let rows = from..(from + CHUNK_ROWS).min(targets.len());
        logits_of(dev, &x.as_slice()[from * c..rows.end * c], head, logits);
        f(rows.clone(), &targets[rows.clone()], logits, &mut losses[rows]);
    }
    losses[..targets.len()].iter().map(|&loss| f64::from(loss)).sum()
}

fn logits_of(dev: &Device, x: &[f32], head: &Tensor, logits: &mut Tensor) {
    let c = head.row_len();
    logits.set_rows(x.len() / c);
    let x = MatRef::dense(x, x.len() / c, c);
    kernels::gemm(&dev.pool, x, matrix(head).t(), matrix_mut(logits), Start::Zero);
}
