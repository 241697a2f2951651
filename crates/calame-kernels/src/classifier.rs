//! Softmax and cross-entropy over the vocabulary, row by row in place.
//!
//! loss = ln Σ e^z − z[target]; dz = (softmax(z) − one-hot(target))·scale. Sums over a row are split in 16 lanes.

use crate::isa::multiversion;
use crate::math::{exp_and_sum, max_of};
use crate::pool::{Pool, Shards};

/// The loss of each row of `logits` [rows, V]; the logits become e^(z − max).
///
/// # Panics
/// If the sizes do not agree, or a target is outside the vocabulary.
pub fn cross_entropy_forward(pool: &Pool, logits: &mut [f32], targets: &[u32], losses: &mut [f32]) {
    for_logit_rows(pool, logits, targets, losses, None);
}

/// The loss of each row, and in the place of its logits their gradient times `scale`.
///
/// # Panics
/// If the sizes do not agree, or a target is outside the vocabulary.
pub fn cross_entropy_forward_backward(
    pool: &Pool,
    logits: &mut [f32],
    targets: &[u32],
    losses: &mut [f32],
    scale: f32,
) {
    for_logit_rows(pool, logits, targets, losses, Some(scale));
}

fn for_logit_rows(pool: &Pool, logits: &mut [f32], targets: &[u32], losses: &mut [f32], scale: Option<f32>) {
    let rows = targets.len();
    assert!(losses.len() == rows, "cross entropy: {rows} targets, {} losses", losses.len());
    if rows == 0 {
        return;
    }
    assert!(logits.len().is_multiple_of(rows), "cross entropy: {} logits in {rows} rows", logits.len());
    let n_vocab = logits.len() / rows;
    let (logits, losses) = (Shards::new(logits), Shards::new(losses));
    pool.run(rows, |r| {
        // SAFETY: tasks have different rows.
        let (z, loss) = unsafe { (logits.part(r * n_vocab, (r + 1) * n_vocab), losses.part(r, r + 1)) };
        loss[0] = row_loss(pool.isa(), z, targets[r] as usize, scale);
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
