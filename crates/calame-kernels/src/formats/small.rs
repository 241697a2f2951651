//! Formats with blocks of 32 elements.
//!
//! Where `qs` holds 4 bits of each element, byte j has element j in its lower half and element j + 16 in its upper
//! half. The docs list the fields in the file's order, each with its size in bytes.

use super::fields::{fields, half};

/// Number of elements in a block.
pub const LEN: usize = 32;

/// Size of a block of each format in bytes.
pub const Q8_0: usize = 2 + 32;
pub const Q4_0: usize = 2 + 16;
pub const Q4_1: usize = 2 + 2 + 16;
pub const Q5_0: usize = 2 + 4 + 16;
pub const Q5_1: usize = 2 + 2 + 4 + 16;
pub const IQ4_NL: usize = 2 + 16;

/// The values that the 4 bits of IQ4_NL select (`kvalues_iq4nl` of ggml-common.h).
pub(crate) const IQ4_NL_VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Q8_0: d 2, qs 32 × i8; xᵢ = d·qᵢ.
pub fn q8_0(block: &[u8; Q8_0], out: &mut [f32; LEN]) {
    let [d, qs] = fields(block, [2, 32]);
    let d = half(d);
    for (x, &q) in out.iter_mut().zip(qs) {
        *x = d * f32::from(q as i8);
    }
}

/// Q4_0: d 2, qs 16; xᵢ = d·(qᵢ − 8).
pub fn q4_0(block: &[u8; Q4_0], out: &mut [f32; LEN]) {
    let [d, qs] = fields(block, [2, 16]);
    let d = half(d);
    halves(qs, out, |_, q| d * f32::from(q as i8 - 8));
}

/// Q4_1: d 2, m 2, qs 16; xᵢ = d·qᵢ + m.
pub fn q4_1(block: &[u8; Q4_1], out: &mut [f32; LEN]) {
    let [d, m, qs] = fields(block, [2, 2, 16]);
    let (d, m) = (half(d), half(m));
    halves(qs, out, |_, q| d * f32::from(q) + m);
}

/// Q5_0: d 2, qh 4 (bit i is the fifth bit of element i), qs 16; xᵢ = d·(qᵢ − 16).
pub fn q5_0(block: &[u8; Q5_0], out: &mut [f32; LEN]) {
    let [d, qh, qs] = fields(block, [2, 4, 16]);
    let d = half(d);
    halves(qs, out, |i, q| d * f32::from((q | fifth_bit(qh, i)) as i8 - 16));
}

/// Q5_1: d 2, m 2, qh 4 (as in Q5_0), qs 16; xᵢ = d·qᵢ + m.
pub fn q5_1(block: &[u8; Q5_1], out: &mut [f32; LEN]) {
    let [d, m, qh, qs] = fields(block, [2, 2, 4, 16]);
    let (d, m) = (half(d), half(m));
    halves(qs, out, |i, q| d * f32::from(q | fifth_bit(qh, i)) + m);
}

/// IQ4_NL: d 2, qs 16; xᵢ = d·values\[qᵢ\].
pub fn iq4_nl(block: &[u8; IQ4_NL], out: &mut [f32; LEN]) {
    let [d, qs] = fields(block, [2, 16]);
    let d = half(d);
    halves(qs, out, |_, q| d * f32::from(IQ4_NL_VALUES[usize::from(q)]));
}

/// Sets each element to `value` of its index and its 4 bits.
fn halves(qs: &[u8], out: &mut [f32; LEN], value: impl Fn(usize, u8) -> f32) {
    let (low, high) = out.split_at_mut(LEN / 2);
    for (j, (&q, (low, high))) in qs.iter().zip(low.iter_mut().zip(high)).enumerate() {
        *low = value(j, q & 15);
        *high = value(j + LEN / 2, q >> 4);
    }
}

/// The fifth bit of element i, shifted to bit 4.
fn fifth_bit(qh: &[u8], i: usize) -> u8 {
    (qh[i / 8] >> (i % 8) & 1) << 4
}
