//! The K formats: blocks of 256 elements in groups of 16 or 32. Each group has a scale, which the block's scale d
//! multiplies.
//!
//! The low bits of consecutive elements are in consecutive bytes: a run of 32 bytes holds 32 elements in its lowest
//! bits, the next 32 elements in the bits above, and so on (64 bytes and 64 elements in Q6_K's `ql`). The docs list the
//! fields in the file's order, each with its size in bytes.

use super::fields::{fields, half};
use super::small::IQ4_NL_VALUES;

/// Number of elements in a block.
pub const LEN: usize = 256;

/// Size of a block of each format in bytes.
pub const Q2_K: usize = 16 + 64 + 2 + 2;
pub const Q3_K: usize = 32 + 64 + 12 + 2;
pub const Q4_K: usize = 2 + 2 + 12 + 128;
pub const Q5_K: usize = 2 + 2 + 12 + 32 + 128;
pub const Q6_K: usize = 128 + 64 + 16 + 2;
pub const IQ4_XS: usize = 2 + 2 + 4 + 128;

/// Q2_K: scales 16 (for each group of 16, the scale in the low half and the minimum in the high half), qs 64, d 2, dmin
/// 2; x = d·scale·q − dmin·min.
pub fn q2_k(block: &[u8; Q2_K], out: &mut [f32; LEN]) {
    let [scales, qs, d, dmin] = fields(block, [16, 64, 2, 2]);
    let (d, dmin) = (half(d), half(dmin));
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        let (scale, min) = (d * f32::from(scales[group] & 15), dmin * f32::from(scales[group] >> 4));
        let (start, shift) = (32 * (group / 8) + 16 * (group % 2), group / 2 % 4 * 2);
        for (x, q) in out.iter_mut().zip(&qs[start..]) {
            *x = scale * f32::from(q >> shift & 3) - min;
        }
    }
}

/// Q3_K: hmask 32, qs 64, scales 12, d 2; x = d·(scale − 32)·(q − 4·(1 − h)), where bit k of byte l of hmask is the h
/// of element 32k + l.
pub fn q3_k(block: &[u8; Q3_K], out: &mut [f32; LEN]) {
    let [hmask, qs, scales, d] = fields(block, [32, 64, 12, 2]);
    let d = half(d);
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        // The low 4 bits of scales 0 to 7 and 8 to 15 are in the two halves of bytes 0 to 7, the high 2 bits of all
        // scales in bytes 8 to 11.
        let low = scales[group % 8] >> (4 * (group / 8)) & 15;
        let high = scales[8 + group % 4] >> (2 * (group / 4)) & 3;
        let scale = d * f32::from((low | high << 4) as i8 - 32);
        let (start, shift) = (32 * (group / 8) + 16 * (group % 2), group / 2 % 4 * 2);
        for ((x, q), h) in out.iter_mut().zip(&qs[start..]).zip(&hmask[16 * (group % 2)..]) {
            let h = h >> (group / 2) & 1;
            *x = scale * f32::from((q >> shift & 3 | h << 2) as i8 - 4);
        }
    }
}

/// Q4_K: d 2, dmin 2, scales 12 ([`scale_and_min`]), qs 128; x = d·scale·q − dmin·min in groups of 32.
pub fn q4_k(block: &[u8; Q4_K], out: &mut [f32; LEN]) {
    let [d, dmin, scales, qs] = fields(block, [2, 2, 12, 128]);
    let (d, dmin) = (half(d), half(dmin));
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_and_min(scales, group);
        let (scale, min) = (d * scale, dmin * min);
        for (x, q) in out.iter_mut().zip(&qs[32 * (group / 2)..]) {
            *x = scale * f32::from(q >> (4 * (group % 2)) & 15) - min;
        }
    }
}

/// Q5_K: d 2, dmin 2, scales 12 ([`scale_and_min`]), qh 32 (bit k of byte l is the fifth bit of element 32k + l), qs
/// 128; x = d·scale·q − dmin·min in groups of 32.
pub fn q5_k(block: &[u8; Q5_K], out: &mut [f32; LEN]) {
    let [d, dmin, scales, qh, qs] = fields(block, [2, 2, 12, 32, 128]);
    let (d, dmin) = (half(d), half(dmin));
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_and_min(scales, group);
        let (scale, min) = (d * scale, dmin * min);
        for ((x, q), h) in out.iter_mut().zip(&qs[32 * (group / 2)..]).zip(qh) {
            let q = q >> (4 * (group % 2)) & 15 | (h >> group & 1) << 4;
            *x = scale * f32::from(q) - min;
        }
    }
}

/// Q6_K: ql 128 (the low 4 bits), qh 64 (the high 2 bits), scales 16 × i8, d 2; x = d·scale·(q − 32) in groups of 16.
pub fn q6_k(block: &[u8; Q6_K], out: &mut [f32; LEN]) {
    let [ql, qh, scales, d] = fields(block, [128, 64, 16, 2]);
    let d = half(d);
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        let scale = d * f32::from(scales[group] as i8);
        let (low, low_shift) = (64 * (group / 8) + 16 * (group % 4), group / 4 % 2 * 4);
        let (high, high_shift) = (32 * (group / 8) + 16 * (group % 2), group / 2 % 4 * 2);
        for ((x, l), h) in out.iter_mut().zip(&ql[low..]).zip(&qh[high..]) {
            let q = l >> low_shift & 15 | (h >> high_shift & 3) << 4;
            *x = scale * f32::from(q as i8 - 32);
        }
    }
}

/// IQ4_XS: d 2, scales_h 2 (the high 2 bits of each scale), scales_l 4 (the low 4 bits), qs 128; x = d·(scale −
/// 32)·values\[q\] in groups of 32, with the values of IQ4_NL. In a group, byte j has element j in its lower half and
/// element j + 16 in its upper half.
pub fn iq4_xs(block: &[u8; IQ4_XS], out: &mut [f32; LEN]) {
    let [d, scales_h, scales_l, qs] = fields(block, [2, 2, 4, 128]);
    let d = half(d);
    let scales_h = u16::from_le_bytes([scales_h[0], scales_h[1]]);
    for (group, (out, qs)) in out.chunks_exact_mut(32).zip(qs.chunks_exact(16)).enumerate() {
        let low = scales_l[group / 2] >> (4 * (group % 2)) & 15;
        let high = (scales_h >> (2 * group) & 3) as u8;
        let scale = d * f32::from((low | high << 4) as i8 - 32);
        let (lower, upper) = out.split_at_mut(16);
        for (q, (lower, upper)) in qs.iter().zip(lower.iter_mut().zip(upper)) {
            *lower = scale * f32::from(IQ4_NL_VALUES[usize::from(q & 15)]);
            *upper = scale * f32::from(IQ4_NL_VALUES[usize::from(q >> 4)]);
        }
    }
}

/// The scale and the minimum, 6 bits each, of a group of 32 from the 12 bytes of Q4_K and Q5_K.
///
/// Bytes 0 to 3 hold the scales of groups 0 to 3 in their low 6 bits, and bytes 4 to 7 their minima. For groups 4 to 7,
/// bytes 8 to 11 hold the low 4 bits of the scales (low half) and of the minima (high half); their high 2 bits are the
/// upper 2 bits of bytes 0 to 7.
fn scale_and_min(scales: &[u8], group: usize) -> (f32, f32) {
    let j = group % 4;
    let (scale, min) = if group < 4 {
        (scales[j] & 63, scales[4 + j] & 63)
    } else {
        (scales[8 + j] & 15 | scales[j] >> 6 << 4, scales[8 + j] >> 4 | scales[4 + j] >> 6 << 4)
    };
    (f32::from(scale), f32::from(min))
}
