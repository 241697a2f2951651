//! The backward pass of causal attention.

use super::head::{AttentionShape, Head, QUERIES, carve, whole_blocks, whole_vectors};
use crate::aligned::AlignedVec;
use crate::disjoint_mut::DisjointMut;
use crate::dropout::DropMask;
use crate::gemm::MatRef;
use crate::gemm::serial::{Masked, Serial};
use crate::isa::{Isa, multiversion};
use crate::math::{exp, sum_of2};
use crate::pool::Pool;
use crate::precision::Precision;

/// Computes dqkv [B·T, 3C] from dy [B·T, C] and the inputs and outputs of
/// [`attention_forward`](super::attention_forward). Overwrites dqkv.
///
/// # Panics
/// If the sizes do not match, `scale` is not positive, a start is after its position, or the starts of a sequence
/// decrease.
pub fn attention_backward(
    pool: &Pool,
    precision: Precision,
    shape: AttentionShape,
    scale: f32,
    dy: &[f32],
    qkv: &[f32],
    starts: Option<&[u32]>,
    keep: Option<&DropMask<'_>>,
    y: &[f32],
    lse: &[f32],
    dqkv: &mut [f32],
) {
    shape.check(scale, qkv.len(), y.len(), lse.len());
    shape.check_starts(starts);
    assert!(dy.len() == y.len() && dqkv.len() == qkv.len(), "attention_backward: dy or dqkv has the wrong size");
    let (serial, dqkv) = (Serial::new(pool.isa(), precision), DisjointMut::new(dqkv));
    pool.run_with_scratch(shape.n_sequences * shape.n_head, |task, scratch| {
        let (isa, head) = (pool.isa(), Head::of_task(shape, task));
        HeadBackward { isa, serial, head, scale, dy, qkv, starts, keep, y, lse, dqkv }.run(scratch);
    });
}

/// Lengths of the buffers in a task's workspace: packed keys, packed transposed keys, packed transposed values, the
/// other packed right operands, the packed left operands, attention weights, score gradients, dropout factors.
pub(super) fn backward_lengths(serial: Serial, shape: AttentionShape) -> [usize; 8] {
    let (t, hs, scores) = (shape.n_positions, shape.head_size, QUERIES * shape.scores_stride());
    [
        serial.packed_b_len(t, hs),
        serial.packed_b_len(hs, t),
        serial.packed_b_len(hs, t),
        serial.packed_b_len(QUERIES, hs),
        serial.packed_a_len(QUERIES, t.max(hs)).max(serial.packed_a_len(t, QUERIES)),
        scores,
        scores,
        whole_vectors(t),
    ]
}

/// The backward pass of one head of one sequence.
struct HeadBackward<'a> {
    isa: Isa,
    serial: Serial,
    head: Head,
    scale: f32,
    dy: &'a [f32],
    qkv: &'a [f32],
    starts: Option<&'a [u32]>,
    keep: Option<&'a DropMask<'a>>,
    y: &'a [f32],
    lse: &'a [f32],
    dqkv: DisjointMut<f32>,
}

impl HeadBackward<'_> {
    fn run(&self, scratch: &mut AlignedVec) {
        let (serial, head) = (self.serial, self.head);
        let AttentionShape { n_positions: t, head_size: hs, .. } = head.shape;
        let stride = head.shape.scores_stride();
        let [for_keys, for_keys_t, for_values_t, for_b, for_a, weights, dscores, factors] =
            carve(scratch, backward_lengths(serial, head.shape));
        self.clear_key_and_value_gradients();
        let (k, v) = (head.qkv(self.qkv, 1, 0, t), head.qkv(self.qkv, 2, 0, t));
        let keys = serial.pack_b(for_keys, k);
        let (keys_t, values_t) = (serial.pack_b(for_keys_t, k.t()), serial.pack_b(for_values_t, v.t()));
        let qkv_stride = 3 * head.shape.channels();
        let (dk, dv) = (self.dqkv.at(head.qkv_at(1, 0)), self.dqkv.at(head.qkv_at(2, 0)));
        for from in (0..t).step_by(QUERIES) {
            let to = (from + QUERIES).min(t);
            let q = head.qkv(self.qkv, 0, from, to);
            let block = head.query_block(self.starts, from);
            let (by_keys, over_keys) = (Masked::QueriesByKeys(block), Masked::QueriesOverKeys(block));
            let over_queries = Masked::KeysOverQueries(block);
            let dy = MatRef::new(&self.dy[head.y_at(from)..], to - from, hs, head.shape.channels());
            // SAFETY: `weights` and `dscores` belong to this task and have QUERIES rows of `stride` ≥ t elements.
            unsafe {
                serial.multiply(serial.pack_a(for_a, q), keys_t, by_keys, to, weights.as_mut_ptr(), stride, false);
                serial.multiply(serial.pack_a(for_a, dy), values_t, by_keys, to, dscores.as_mut_ptr(), stride, false);
            }
            score_gradients(self.isa, self, from, to, weights, dscores, factors);
            let weights = MatRef::new(weights, to - from, to, stride);
            let dscores = MatRef::new(dscores, to - from, to, stride);
            // SAFETY: no other task touches this head's columns of dqkv.
            unsafe {
                let dq = self.dqkv.at(head.qkv_at(0, from));
                serial.multiply(serial.pack_a(for_a, dscores), keys, over_keys, hs, dq, qkv_stride, false);
                let dy = serial.pack_b(for_b, dy);
                serial.multiply(serial.pack_a(for_a, weights.t()), dy, over_queries, hs, dv, qkv_stride, true);
                let q = serial.pack_b(for_b, q);
                serial.multiply(serial.pack_a(for_a, dscores.t()), q, over_queries, hs, dk, qkv_stride, true);
            }
        }
    }

    fn clear_key_and_value_gradients(&self) {
        let AttentionShape { n_positions, head_size, .. } = self.head.shape;
        for part in [1, 2] {
            for t in 0..n_positions {
                let at = self.head.qkv_at(part, t);
                // SAFETY: no other task touches this head's columns of dqkv.
                unsafe { self.dqkv.part(at, at + head_size) }.fill(0.0);
            }
        }
    }
}

multiversion! {
    fn score_gradients(
        pass: &HeadBackward<'_>, from: usize, to: usize, weights: &mut [f32], dscores: &mut [f32], factors: &mut [f32],
    ) = score_gradients_body;
}

/// For queries `from..to`, replaces q·k in `weights` by P̃ (the softmax times the dropout factors) and dy·v in
/// `dscores` by s·dS (the gradient of q·k). Sets masked elements to 0.
#[inline(always)]
fn score_gradients_body(
    pass: &HeadBackward<'_>,
    from: usize,
    to: usize,
    weights: &mut [f32],
    dscores: &mut [f32],
    factors: &mut [f32],
) {
    let HeadBackward { head, scale, dy, starts, keep, y, lse, .. } = *pass;
    let head_size = head.shape.head_size;
    let stride = head.shape.scores_stride();
    for (q, (weights, dscores)) in
        (from..to).zip(weights.chunks_exact_mut(stride).zip(dscores.chunks_exact_mut(stride)))
    {
        let at = head.y_at(q);
        let d = sum_of2(&dy[at..at + head_size], &y[at..at + head_size], |a, b| a * b);
        let lse = lse[head.lse_at() + q];
        let first_key = head.first_key(starts, q);
        let computed = whole_blocks(first_key)..whole_vectors(q + 1);
        let factors = &mut factors[computed.clone()];
        match keep {
            Some(keep) => {
                keep.each(head.sequence, head.drop_row(q), computed.start, factors, |x, factor| *x = factor);
            }
            None => factors.fill(1.0),
        }
        let computed = weights[computed.clone()].iter_mut().zip(dscores[computed].iter_mut());
        for ((w, ds), &f) in computed.zip(factors.iter()) {
            let p = exp(scale * *w - lse);
            *ds = scale * p * (f * *ds - d);
            *w = p * f;
        }
        for masked in [0..first_key, q + 1..to] {
            weights[masked.clone()].fill(0.0);
            dscores[masked].fill(0.0);
        }
    }
}
