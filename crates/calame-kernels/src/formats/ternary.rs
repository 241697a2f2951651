//! The ternary formats: blocks of 256 elements, each −d, 0 or d.
//!
//! The docs list the fields in the file's order, each with its size in bytes.

use super::fields::{fields, half};
use super::k::LEN;

/// Size of a block of each format in bytes.
pub const TQ1_0: usize = 48 + 4 + 2;
pub const TQ2_0: usize = 64 + 2;

/// Powers of three, which move a digit to the top of a byte.
pub const POWERS: [u8; 5] = [1, 3, 9, 27, 81];

/// TQ1_0: qs 48 (five digits of base 3 in each byte), qh 4 (four digits), d 2; x = d·(digit − 1).
///
/// Digit n of consecutive bytes belongs to consecutive elements: first those of the bytes 0 to 31, n from 0 to 4, then
/// those of the bytes 32 to 47, then those of `qh`, n from 0 to 3.
pub fn tq1_0(block: &[u8; TQ1_0], out: &mut [f32; LEN]) {
    let [first, second, qh, d] = fields(block, [32, 16, 4, 2]);
    let d = half(d);
    let runs = [(first, 5), (second, 5), (qh, 4)];
    let digits = runs.into_iter().flat_map(|(bytes, n_digits)| {
        POWERS[..n_digits].iter().flat_map(move |&power| bytes.iter().map(move |&byte| digit(byte, power)))
    });
    for (x, digit) in out.iter_mut().zip(digits) {
        *x = f32::from(digit as i8 - 1) * d;
    }
}

/// The digit that `power` moves to the top. A byte is a fraction of 256: its first digit is the integer part of three times
/// that fraction.
#[inline(always)]
pub fn digit(byte: u8, power: u8) -> u8 {
    ((u16::from(byte.wrapping_mul(power)) * 3) >> 8) as u8
}

/// TQ2_0: qs 64 (two bits for each element), d 2; x = d·(q − 1). In a run of 32 bytes, the lowest bits of all bytes come
/// first.
pub fn tq2_0(block: &[u8; TQ2_0], out: &mut [f32; LEN]) {
    let [qs, d] = fields(block, [64, 2]);
    let d = half(d);
    for (run, out) in out.chunks_exact_mut(32).enumerate() {
        for (x, q) in out.iter_mut().zip(&qs[32 * (run / 4)..]) {
            *x = f32::from((q >> (2 * (run % 4)) & 3) as i8 - 1) * d;
        }
    }
}
