//! Head, softmax and cross-entropy, by chunks of rows, so that logits [B·T, V] never exist whole.

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
}

impl ClassifierScratch {
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
    let c = x.row_len();
    for from in (0..targets.len()).step_by(CHUNK_ROWS) {
        let to = (from + CHUNK_ROWS).min(targets.len());
        let x = &x.as_slice()[from * c..to * c];
        let losses = &mut scratch.losses[from..to];
        logits_of(dev, x, head, &mut scratch.logits);
        kernels::cross_entropy_forward(&dev.pool, scratch.logits.as_mut_slice(), &targets[from..to], losses);
    }
    sum(&scratch.losses[..targets.len()])
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
    let c = x.row_len();
    for from in (0..targets.len()).step_by(CHUNK_ROWS) {
        let to = (from + CHUNK_ROWS).min(targets.len());
        let x = &x.as_slice()[from * c..to * c];
        let dx = &mut dx.as_mut_slice()[from * c..to * c];
        let (logits, losses) = (&mut scratch.logits, &mut scratch.losses[from..to]);
        logits_of(dev, x, head, logits);
        let z = logits.as_mut_slice();
        kernels::cross_entropy_forward_backward(&dev.pool, z, &targets[from..to], losses, scale);
        let (dx, x) = (MatMut::dense(dx, to - from, c), MatRef::dense(x, to - from, c));
        kernels::gemm(&dev.pool, matrix(logits), matrix(head), dx, Start::Zero);
        if !dhead.is_empty() {
            kernels::gemm(&dev.pool, matrix(logits).t(), x, matrix_mut(dhead), Start::Add);
        }
    }
    sum(&scratch.losses[..targets.len()])
}

fn logits_of(dev: &Device, x: &[f32], head: &Tensor, logits: &mut Tensor) {
    let c = head.row_len();
    logits.set_rows(x.len() / c);
    let x = MatRef::dense(x, x.len() / c, c);
    kernels::gemm(&dev.pool, x, matrix(head).t(), matrix_mut(logits), Start::Zero);
}

fn sum(losses: &[f32]) -> f64 {
    losses.iter().map(|&loss| f64::from(loss)).sum()
}
