//! Encoders of the formats with blocks of 256 elements.
//!
//! Three steps: a search gives each group a scale (and a minimum); these are stored as integers and a scale of the block
//! in f16; the codes are then rounded again, under the group's scale as the decoder computes it. A group whose stored
//! scale is 0 keeps the codes of the search.

use super::search::{
    Affine, NEGLIGIBLE, affine, inverse, largest, largest_positive, nearest_int, nearest_value, refined, symmetric,
    uneven,
};
use crate::formats::fields::{fields_mut, pack, set_half};
use crate::formats::k::{IQ4_XS, LEN, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K};

/// Q2_K: groups of 16, weights |x|, absolute error.
pub fn q2_k(x: &[f32; LEN], block: &mut [u8; Q2_K]) {
    let search = Affine { n: 3, first: -0.5, n_steps: 15, is_absolute: true };
    let [packed, qs, d, dmin] = fields_mut(block, [16, 64, 2, 2]);
    let (mut scales, mut mins, mut codes) = ([0.0; 16], [0.0; 16], [0; LEN]);
    for (group, (x, codes)) in groups::<16>(x, &mut codes).enumerate() {
        (scales[group], mins[group], *codes) = affine(x, &x.map(f32::abs), &search);
    }
    let (max_scale, max_min) = (largest_positive(&scales), largest_positive(&mins));
    let d = set_half(d, max_scale / 15.0);
    let dmin = set_half(dmin, max_min / 15.0);
    let quantized = |x: f32, max: f32| if max > 0.0 { nearest_int(15.0 / max * x) as u8 } else { 0 };
    for (group, (x, codes)) in groups::<16>(x, &mut codes).enumerate() {
        packed[group] = quantized(scales[group], max_scale) | quantized(mins[group], max_min) << 4;
        let (scale, min) = (packed[group] & 15, packed[group] >> 4);
        round_again(x, d * f32::from(scale), dmin * f32::from(min), 0, 3, codes);
    }
    pack(&codes, 2, 32, qs);
}

/// Q3_K: groups of 16, weights x².
pub fn q3_k(x: &[f32; LEN], block: &mut [u8; Q3_K]) {
    let [hmask, qs, packed, d] = fields_mut(block, [32, 64, 12, 2]);
    let (mut scales, mut codes) = ([0.0; 16], [0; LEN]);
    for (scale, (x, codes)) in scales.iter_mut().zip(groups::<16>(x, &mut codes)) {
        (*scale, *codes) = refined(x, 4);
    }
    let largest = largest(&scales);
    let (to_integer, d) = if largest == 0.0 {
        (None, set_half(d, 0.0))
    } else {
        let inverse = -32.0 / largest;
        (Some(inverse), set_half(d, 1.0 / inverse))
    };
    packed.fill(0);
    for (group, (x, codes)) in groups::<16>(x, &mut codes).enumerate() {
        let scale = match to_integer {
            Some(inverse) => (nearest_int(inverse * scales[group]) as i8).clamp(-32, 31),
            // All bits are 0.
            None => -32,
        };
        let bits = (scale + 32) as u8;
        packed[group % 8] |= (bits & 15) << (4 * (group / 8));
        packed[8 + group % 4] |= bits >> 4 << (2 * (group / 4));
        round_again(x, d * f32::from(scale), 0.0, -4, 3, codes);
    }
    pack(&codes.map(|q| q >> 2), 1, 32, hmask);
    pack(&codes, 2, 32, qs);
}

/// Q4_K: groups of 32, see [`scaled_groups`].
pub fn q4_k(x: &[f32; LEN], block: &mut [u8; Q4_K]) {
    let search = Affine { n: 15, first: -1.0, n_steps: 20, is_absolute: false };
    let [d, dmin, scales, qs] = fields_mut(block, [2, 2, 12, 128]);
    let codes = scaled_groups(x, &search, d, dmin, scales);
    pack(&codes, 4, 32, qs);
}

/// Q5_K: groups of 32, see [`scaled_groups`].
pub fn q5_k(x: &[f32; LEN], block: &mut [u8; Q5_K]) {
    let search = Affine { n: 31, first: -0.5, n_steps: 15, is_absolute: false };
    let [d, dmin, scales, qh, qs] = fields_mut(block, [2, 2, 12, 32, 128]);
    let codes = scaled_groups(x, &search, d, dmin, scales);
    pack(&codes.map(|q| q >> 4), 1, 32, qh);
    pack(&codes, 4, 32, qs);
}

/// Q6_K: groups of 16, weights x².
pub fn q6_k(x: &[f32; LEN], block: &mut [u8; Q6_K]) {
    let [ql, qh, packed, d] = fields_mut(block, [128, 64, 16, 2]);
    let (mut scales, mut codes) = ([0.0; 16], [0; LEN]);
    for (scale, (x, codes)) in scales.iter_mut().zip(groups::<16>(x, &mut codes)) {
        (*scale, *codes) = symmetric(x, 32);
    }
    let largest = largest(&scales);
    if largest.abs() < NEGLIGIBLE {
        block.fill(0);
        return;
    }
    let inverse = -128.0 / largest;
    let d = set_half(d, 1.0 / inverse);
    for (group, (x, codes)) in groups::<16>(x, &mut codes).enumerate() {
        let scale = nearest_int(inverse * scales[group]).min(127) as i8;
        packed[group] = scale as u8;
        round_again(x, d * f32::from(scale), 0.0, -32, 31, codes);
    }
    pack(&codes, 4, 64, ql);
    pack(&codes.map(|q| q >> 4), 2, 32, qh);
}

/// IQ4_XS: groups of 32, weights x². The codes are rounded under the block's scale in f32.
pub fn iq4_xs(x: &[f32; LEN], block: &mut [u8; IQ4_XS]) {
    let [d, scales_h, scales_l, qs] = fields_mut(block, [2, 2, 4, 128]);
    let (mut scales, mut codes) = ([0.0; 8], [0; LEN]);
    for (scale, x) in scales.iter_mut().zip(x.as_chunks::<32>().0) {
        *scale = uneven(x);
    }
    let block_scale = -largest(&scales) / 32.0;
    set_half(d, block_scale);
    scales_l.fill(0);
    let mut high = 0u16;
    for (group, (x, codes)) in groups::<32>(x, &mut codes).enumerate() {
        let scale = nearest_int(inverse(block_scale) * scales[group]).clamp(-32, 31);
        let inverse = inverse(block_scale * scale as f32);
        *codes = x.map(|x| nearest_value(inverse * x));
        let bits = (scale + 32) as u8;
        scales_l[group / 2] |= (bits & 15) << (4 * (group % 2));
        high |= u16::from(bits >> 4) << (2 * group);
    }
    scales_h.copy_from_slice(&high.to_le_bytes());
    pack(&codes, 4, 16, qs);
}

/// Scales and minima of Q4_K and Q5_K in groups of 32, with weights |x| + √(Σx²/32); returns the codes.
fn scaled_groups(x: &[f32; LEN], search: &Affine, d: &mut [u8], dmin: &mut [u8], packed: &mut [u8]) -> [u8; LEN] {
    let (mut scales, mut mins, mut codes) = ([0.0; 8], [0.0; 8], [0; LEN]);
    for (group, (x, codes)) in groups::<32>(x, &mut codes).enumerate() {
        let root_mean_square = (x.iter().fold(0.0, |sum, x| sum + x * x) / 32.0).sqrt();
        (scales[group], mins[group], *codes) = affine(x, &x.map(|x| root_mean_square + x.abs()), search);
    }
    let (max_scale, max_min) = (largest_positive(&scales), largest_positive(&mins));
    let quantized = |numbers: [f32; 8], max: f32| {
        let inverse = if max > 0.0 { 63.0 / max } else { 0.0 };
        numbers.map(|x| (nearest_int(inverse * x) as u8).min(63))
    };
    let (scales, mins) = (quantized(scales, max_scale), quantized(mins, max_min));
    pack_scales(&scales, &mins, packed);
    let (d, dmin) = (set_half(d, max_scale / 63.0), set_half(dmin, max_min / 63.0));
    for (group, (x, codes)) in groups::<32>(x, &mut codes).enumerate() {
        round_again(x, d * f32::from(scales[group]), dmin * f32::from(mins[group]), 0, search.n, codes);
    }
    codes
}

/// Stores scales and minima of 6 bits in 12 bytes; the decoder's `scale_and_min` has the layout.
fn pack_scales(scales: &[u8; 8], mins: &[u8; 8], packed: &mut [u8]) {
    for j in 0..4 {
        packed[j] = scales[j] | scales[4 + j] >> 4 << 6;
        packed[4 + j] = mins[j] | mins[4 + j] >> 4 << 6;
        packed[8 + j] = scales[4 + j] & 15 | mins[4 + j] << 4;
    }
}

/// Codes of a group under its stored scale, x ≈ scale·(code + first) − min with code + first up to `last`. They remain as
/// they are if the scale is 0.
fn round_again(x: &[f32], scale: f32, min: f32, first: i32, last: i32, codes: &mut [u8]) {
    if scale != 0.0 {
        for (code, x) in codes.iter_mut().zip(x) {
            *code = (nearest_int((x + min) / scale).clamp(first, last) - first) as u8;
        }
    }
}

/// The groups of a block, elements and codes.
fn groups<'a, const N: usize>(
    x: &'a [f32; LEN],
    codes: &'a mut [u8; LEN],
) -> impl Iterator<Item = (&'a [f32; N], &'a mut [u8; N])> {
    x.as_chunks().0.iter().zip(codes.as_chunks_mut().0)
}
