//! Softmax and cross-entropy over the vocabulary, computed row by row and in place.
//!
//! loss = ln Σ e^z − `z[target]`; dz = (softmax(z) − one-hot(target))·scale·weight. Sums over a row have 16 lanes.

use crate::disjoint_mut::DisjointMut;
use crate::isa::multiversion;
use crate::math::{exp_and_sum, max_of};
use crate::pool::Pool;

/// Computes the loss of each row of `logits` [R, V], not multiplied by its weight; the logits are overwritten.
///
/// A row whose weight is 0 has loss 0, and its target is not read. Without `weights` `[R]`, every weight is 1.
///
/// # Panics
/// If the sizes do not agree, or the target of a row whose weight is not 0 is outside the vocabulary.
pub fn cross_entropy_forward(
    pool: &Pool,
    logits: &mut [f32],
    targets: &[u32],
    weights: Option<&[f32]>,
    losses: &mut [f32],
) {
    for_logit_rows(pool, logits, targets, weights, losses, None);
}

/// As [`cross_entropy_forward`], and replaces the logits of each row r by the gradient of its loss times
/// `scale`·`weights[r]`; the gradient is exactly 0 where the weight is 0.
///
/// # Panics
/// As [`cross_entropy_forward`].
pub fn cross_entropy_forward_backward(
    pool: &Pool,
    logits: &mut [f32],
    targets: &[u32],
    weights: Option<&[f32]>,
    losses: &mut [f32],
    scale: f32,
) {
    for_logit_rows(pool, logits, targets, weights, losses, Some(scale));
}

fn for_logit_rows(
    pool: &Pool,
    logits: &mut [f32],
    targets: &[u32],
    weights: Option<&[f32]>,
    losses: &mut [f32],
    scale: Option<f32>,
) {
    let rows = targets.len();
    assert!(
        losses.len() == rows && weights.is_none_or(|weights| weights.len() == rows),
        "cross entropy: {rows} targets, {} losses, {:?} weights",
        losses.len(),
        weights.map(<[f32]>::len)
    );
    if rows == 0 {
        return;
    }
    assert!(logits.len().is_multiple_of(rows), "cross entropy: {} logits in {rows} rows", logits.len());
    let n_vocab = logits.len() / rows;
    let weight_of = |r: usize| weights.map_or(1.0, |weights| weights[r]);
    for (r, &target) in targets.iter().enumerate() {
        let inside = (target as usize) < n_vocab || weight_of(r) == 0.0;
        assert!(inside, "cross entropy: target {target} of row {r} is outside the vocabulary of {n_vocab}");
    }
    let (logits, losses) = (DisjointMut::new(logits), DisjointMut::new(losses));
    pool.run(rows, |r| {
        // SAFETY: tasks have different rows.
        let (z, loss) = unsafe { (logits.part(r * n_vocab, (r + 1) * n_vocab), losses.part(r, r + 1)) };
        let weight = weight_of(r);
        loss[0] = if weight == 0.0 {
            z.fill(0.0);
            0.0
        } else {
            row_loss(pool.isa(), z, targets[r] as usize, scale.map(|scale| scale * weight))
        };
    });
}

multiversion! { fn row_loss(z: &mut [f32], target: usize, scale: Option<f32>) -> f32 = row_loss_body; }

#[inline(always)]
fn row_loss_body(z: &mut [f32], target: usize, scale: Option<f32>) -> f32 {
    let (max, at_target) = (max_of(z), z[target]);
    let sum = exp_and_sum(z, max, 1.0);
    if let Some(scale) = scale {
        let factor = scale / sum;
        z.iter_mut().for_each(|z| *z *= factor);
        z[target] -= scale;
    }
    sum.ln() + (max - at_target)
}

/// Sums the losses `[R]`, each times its row's weight, in f64 and in the order of the rows.
///
/// A row whose weight is 0 is skipped, whatever its loss. Without `weights`, every weight is 1.
///
/// # Panics
/// If the sizes do not agree.
pub fn sum_losses(losses: &[f32], weights: Option<&[f32]>) -> f64 {
    let Some(weights) = weights else { return losses.iter().map(|&loss| f64::from(loss)).sum() };
    assert!(weights.len() == losses.len(), "sum_losses: {} losses, {} weights", losses.len(), weights.len());
    let counted = losses.iter().zip(weights).filter(|&(_, &weight)| weight != 0.0);
    counted.map(|(&loss, &weight)| f64::from(weight) * f64::from(loss)).sum()
}
