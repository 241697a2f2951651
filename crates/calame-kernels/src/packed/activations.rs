//! The rows of x in products with block formats: int8 in blocks of 32 elements, each with a scale in f32.
//!
//! With codes w = scale·(q − offset) − min of a group of weights and x = d·p of the row, the group adds
//! scale·d·(Σ q·p − offset·Σ p) − min·d·Σ p. What depends only on x is computed once a row: d, −offset·Σ p, d·Σ p.

use super::codes::Groups;
use super::raw::cast_mut;
use crate::isa::{Isa, multiversion};

/// Number of elements of x that share a scale.
pub(super) const BLOCK: usize = 32;
/// The largest magnitude of a code of x.
const MAX: f32 = 127.0;
/// 1.5·2²³: adding it leaves the nearest integer, ties to even, in the low bits of the sum.
const ROUND: f32 = 12_582_912.0;

/// Quantized rows of x [R, k], of which several tasks read.
#[derive(Clone, Copy)]
pub(super) struct Activations<'a> {
    /// The codes p of all rows, [R, k].
    pub codes: &'a [i8],
    /// The scale d of each block, [R, k/32].
    pub scales: &'a [f32],
    /// −offset·Σ p of each group, [R, groups].
    pub offsets: &'a [i32],
    /// d·Σ p of each group, [R, groups].
    pub sums: &'a [f32],
    /// Elements of a row, k.
    pub len: usize,
    /// Number of groups of a row.
    pub n_groups: usize,
}

/// Numbers of units of four bytes that codes, scales, offsets and sums of a row of `k` elements take.
pub(super) fn lens(k: usize, groups: Groups) -> [usize; 4] {
    [k / 4, k / BLOCK, k / groups.len, k / groups.len]
}

/// Quantizes a row into its parts, whose sizes are those of [`lens`].
pub(super) fn quantize_row(isa: Isa, x: &[f32], groups: Groups, parts: [&mut [f32]; 4]) {
    let [codes, scales, offsets, sums] = parts;
    quantize(isa, x, groups.len, groups.offset, cast_mut(codes), scales, cast_mut(offsets), sums);
}

multiversion! {
    fn quantize(
        x: &[f32], group_len: usize, offset: i32, codes: &mut [i8], scales: &mut [f32], offsets: &mut [i32],
        sums: &mut [f32],
    ) = quantize_body;
}

#[inline(always)]
fn quantize_body(
    x: &[f32],
    group_len: usize,
    offset: i32,
    codes: &mut [i8],
    scales: &mut [f32],
    offsets: &mut [i32],
    sums: &mut [f32],
) {
    let blocks = x.as_chunks::<BLOCK>().0.iter().zip(codes.as_chunks_mut::<BLOCK>().0);
    let per_block = BLOCK / group_len;
    let groups = offsets.chunks_exact_mut(per_block).zip(sums.chunks_exact_mut(per_block));
    for (((x, codes), scale), (offsets, sums)) in blocks.zip(scales).zip(groups) {
        // The bits of non-negative numbers are in their order; those of NaN are above all others.
        let largest = x.iter().fold(0u32, |largest, x| largest.max(x.to_bits() & 0x7fff_ffff));
        let d = f32::from_bits(largest) / MAX;
        let inverse = if d > 0.0 { 1.0 / d } else { 0.0 };
        // A scale so small that its inverse is infinite: the block counts as zeros.
        let inverse = if inverse.is_finite() { inverse } else { 0.0 };
        let code = |x: f32| ((x * inverse + ROUND).to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
        codes.iter_mut().zip(x).for_each(|(to, &x)| *to = code(x) as i8);
        *scale = d;
        for ((codes, offset_sum), sum) in codes.chunks_exact(group_len).zip(offsets).zip(sums) {
            let total: i32 = codes.iter().map(|&code| i32::from(code)).sum();
            *offset_sum = -offset * total;
            *sum = d * total as f32;
        }
    }
}
