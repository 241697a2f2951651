//! Encoders of the formats with blocks of 32 elements.
//!
//! Except for IQ4_NL, the scale maps the largest element, or the range of the elements, to the largest codes; nothing is
//! searched. Codes are rounded with the scale in f32, before it is stored as f16. In Q4_0 and Q5_0 the scale has the
//! sign that gives the largest element the most negative code, of which there is one more than of positive ones.

use super::search::{inverse, largest, nearest_value, range, truncate, uneven};
use crate::formats::fields::{fields_mut, pack, set_half};
use crate::formats::small::{IQ4_NL, LEN, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};

/// Q8_0: d = max|x| / 127.
pub fn q8_0(x: &[f32; LEN], block: &mut [u8; Q8_0]) {
    let [d, qs] = fields_mut(block, [2, 32]);
    let scale = largest(x).abs() / 127.0;
    let inverse = inverse(scale);
    set_half(d, scale);
    qs.iter_mut().zip(x).for_each(|(q, x)| *q = truncate((x * inverse).round()) as u8);
}

/// Q4_0: d = −largest / 8.
pub fn q4_0(x: &[f32; LEN], block: &mut [u8; Q4_0]) {
    let [d, qs] = fields_mut(block, [2, 16]);
    let codes = symmetric(x, d, 8);
    pack(&codes, 4, 16, qs);
}

/// Q4_1: d = (max − min) / 15, m = min.
pub fn q4_1(x: &[f32; LEN], block: &mut [u8; Q4_1]) {
    let [d, m, qs] = fields_mut(block, [2, 2, 16]);
    let codes = affine(x, d, m, 15);
    pack(&codes, 4, 16, qs);
}

/// Q5_0: d = −largest / 16.
pub fn q5_0(x: &[f32; LEN], block: &mut [u8; Q5_0]) {
    let [d, qh, qs] = fields_mut(block, [2, 4, 16]);
    let codes = symmetric(x, d, 16);
    fifth_bits(&codes, qh);
    pack(&codes, 4, 16, qs);
}

/// Q5_1: d = (max − min) / 31, m = min.
pub fn q5_1(x: &[f32; LEN], block: &mut [u8; Q5_1]) {
    let [d, m, qh, qs] = fields_mut(block, [2, 2, 4, 16]);
    let codes = affine(x, d, m, 31);
    fifth_bits(&codes, qh);
    pack(&codes, 4, 16, qs);
}

/// IQ4_NL: d from a search.
///
/// This is what `quantize_iq4_nl` computes when llama.cpp writes a model file without an importance matrix.
/// `quantize_row_iq4_nl_ref` differs: it tries one scale only, and leaves the codes of blocks of zeros undefined.
pub fn iq4_nl(x: &[f32; LEN], block: &mut [u8; IQ4_NL]) {
    let [d, qs] = fields_mut(block, [2, 16]);
    let scale = uneven(x);
    let inverse = inverse(scale);
    set_half(d, scale);
    pack(&x.map(|x| nearest_value(inverse * x)), 4, 16, qs);
}

/// Stores the scale that maps the largest element to −n; returns codes below 2n of x ≈ d·(code − n).
fn symmetric(x: &[f32; LEN], d: &mut [u8], n: i8) -> [u8; LEN] {
    let n_f32 = f32::from(n);
    let scale = largest(x) / -n_f32;
    let inverse = inverse(scale);
    set_half(d, scale);
    x.map(|x| (truncate(x * inverse + (n_f32 + 0.5)) as i8).min(2 * n - 1) as u8)
}

/// Stores the scale and the minimum that map the range of the elements to 0 to n; returns codes of x ≈ d·code + m.
fn affine(x: &[f32; LEN], d: &mut [u8], m: &mut [u8], n: i8) -> [u8; LEN] {
    let (min, max) = range(x);
    let scale = (max - min) / f32::from(n);
    let inverse = inverse(scale);
    set_half(d, scale);
    set_half(m, min);
    x.map(|x| (truncate((x - min) * inverse + 0.5) as i8).min(n) as u8)
}

/// Stores bit 4 of each code: bit i of `qh` is that of element i.
fn fifth_bits(codes: &[u8; LEN], qh: &mut [u8]) {
    for (byte, codes) in qh.iter_mut().zip(codes.chunks_exact(8)) {
        *byte = codes.iter().enumerate().fold(0, |byte, (i, code)| byte | (code >> 4) << i);
    }
}
