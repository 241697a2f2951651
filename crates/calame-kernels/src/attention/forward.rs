//! The forward pass of causal attention.

use super::head::{AttentionShape, Head, QUERIES, carve, whole_blocks, whole_vectors};
use crate::disjoint_mut::DisjointMut;
use crate::dropout::DropMask;
use crate::gemm::MatRef;
use crate::gemm::serial::{Masked, Serial};
use crate::isa::multiversion;
use crate::math::{exp_and_sum, max_of};
use crate::pool::Pool;
use crate::precision::Precision;

/// Computes y [B·T, C] and the log-sum-exp of each row of scores, lse [B, NH, T], from qkv [B·T, 3C]; both are
/// overwritten.
///
/// `starts` [B·T] gives, for each position, the first position of its sequence that it may attend to, so that packed
/// examples do not see each other; without it, every position attends from position 0. The rows of `keep` are head · T
/// + query, its columns are keys. `scale` multiplies the scores before the softmax.
///
/// # Panics
/// If the sizes do not agree, `scale` is not positive, a start is after its position, or the starts of a sequence
/// decrease.
pub fn attention_forward(
    pool: &Pool,
    precision: Precision,
    shape: AttentionShape,
    scale: f32,
    qkv: &[f32],
    starts: Option<&[u32]>,
    keep: Option<&DropMask<'_>>,
    y: &mut [f32],
    lse: &mut [f32],
) {
    shape.check(scale, qkv.len(), y.len(), lse.len());
    shape.check_starts(starts);
    let serial = Serial::new(pool.isa(), precision);
    let (y, lse) = (DisjointMut::new(y), DisjointMut::new(lse));
    let (t, hs, stride) = (shape.n_positions, shape.head_size, shape.scores_stride());
    pool.run_with_scratch(shape.n_sequences * shape.n_head, |task, scratch| {
        let head = Head::of_task(shape, task);
        let [for_keys, for_values, for_a, weights] = carve(scratch, forward_lengths(serial, shape));
        let keys = serial.pack_b(for_keys, head.qkv(qkv, 1, 0, t).t());
        let values = serial.pack_b(for_values, head.qkv(qkv, 2, 0, t));
        for from in (0..t).step_by(QUERIES) {
            let to = (from + QUERIES).min(t);
            let block = head.query_block(starts, from);
            let queries = serial.pack_a(for_a, head.qkv(qkv, 0, from, to));
            // SAFETY: `weights` belongs to this task and has QUERIES rows of at least t elements.
            unsafe {
                serial.multiply(queries, keys, Masked::QueriesByKeys(block), to, weights.as_mut_ptr(), stride, false);
            }
            // SAFETY: no other task writes this head's lse.
            let lse = unsafe { lse.part(head.lse_at() + from, head.lse_at() + to) };
            softmax_rows(pool.isa(), head, scale, starts, keep, from, to, weights, lse);
            let weights = serial.pack_a(for_a, MatRef::new(weights, to - from, to, stride));
            // SAFETY: no other task writes this head's columns of y.
            unsafe {
                let y = y.at(head.y_at(from));
                serial.multiply(weights, values, Masked::QueriesOverKeys(block), hs, y, shape.channels(), false);
            }
        }
    });
}

/// Lengths of the parts of a task's work space: packed keys, packed values, packed queries or weights, weights.
pub(super) fn forward_lengths(serial: Serial, shape: AttentionShape) -> [usize; 4] {
    let (t, hs) = (shape.n_positions, shape.head_size);
    [
        serial.packed_b_len(hs, t),
        serial.packed_b_len(t, hs),
        serial.packed_a_len(QUERIES, t.max(hs)),
        QUERIES * shape.scores_stride(),
    ]
}

multiversion! {
    fn softmax_rows(
        head: Head, scale: f32, starts: Option<&[u32]>, keep: Option<&DropMask<'_>>, from: usize, to: usize,
        weights: &mut [f32], lse: &mut [f32],
    ) = softmax_rows_body;
}

/// Replaces rows `from..to` of scores, which have columns for keys 0..to, by weights after dropout; masked elements
/// become 0.
#[inline(always)]
fn softmax_rows_body(
    head: Head,
    scale: f32,
    starts: Option<&[u32]>,
    keep: Option<&DropMask<'_>>,
    from: usize,
    to: usize,
    weights: &mut [f32],
    lse: &mut [f32],
) {
    let stride = head.shape.scores_stride();
    for ((q, row), lse) in (from..to).zip(weights.chunks_exact_mut(stride)).zip(lse) {
        let (first_key, n_seen) = (head.first_key(starts, q), whole_vectors(q + 1));
        // Whole vectors are computed; e^−∞ is negligible beside e^0 of the largest score.
        let first = whole_blocks(first_key);
        row[first..first_key].fill(f32::NEG_INFINITY);
        row[q + 1..n_seen].fill(f32::NEG_INFINITY);
        let seen = &mut row[first..n_seen];
        let max = max_of(seen);
        let sum = exp_and_sum(seen, max, scale);
        *lse = scale * max + sum.ln();
        let inverse = 1.0 / sum;
        // Zeroed before the multiplication below: it would make denormals, which take some processors 100 cycles each.
        row[..first_key].fill(0.0);
        row[q + 1..to.max(n_seen)].fill(0.0);
        let seen = &mut row[first..n_seen];
        match keep {
            Some(keep) => {
                keep.each(head.sequence, head.drop_row(q), first, seen, |w, factor| *w = *w * inverse * factor);
            }
            None => seen.iter_mut().for_each(|w| *w *= inverse),
        }
    }
}
