//! Encoders of the ternary formats: d = max|x|, and each element is rounded to −d, 0 or d.

use super::search::{inverse, largest, truncate};
use crate::formats::fields::{fields_mut, pack, set_half};
use crate::formats::k::LEN;
use crate::formats::ternary::{TQ1_0, TQ2_0};

/// TQ1_0: a byte holds five digits of base 3 as a fraction of 256, rounded up so that the decoder finds all of them.
pub fn tq1_0(x: &[f32; LEN], block: &mut [u8; TQ1_0]) {
    let [first, second, qh, d] = fields_mut(block, [32, 16, 4, 2]);
    let digits = digits(x, d);
    let (first_digits, rest) = digits.split_at(5 * first.len());
    let (second_digits, last_digits) = rest.split_at(5 * second.len());
    pack_digits(first_digits, first);
    pack_digits(second_digits, second);
    pack_digits(last_digits, qh);
}

/// TQ2_0: 2 bits for each digit.
pub fn tq2_0(x: &[f32; LEN], block: &mut [u8; TQ2_0]) {
    let [qs, d] = fields_mut(block, [64, 2]);
    pack(&digits(x, d), 2, 32, qs);
}

/// Stores the scale; returns the digits of x = d·(digit − 1).
fn digits(x: &[f32; LEN], d: &mut [u8]) -> [u8; LEN] {
    let scale = largest(x).abs();
    let inverse = inverse(scale);
    set_half(d, scale);
    // The sum is 1 for what is no number, in a block whose inverse scale overflows.
    x.map(|x| (truncate((x * inverse).round()) as u8).wrapping_add(1))
}

/// Stores the digits of base 3, up to five in a byte: digit n of consecutive bytes belongs to consecutive elements.
fn pack_digits(digits: &[u8], bytes: &mut [u8]) {
    let n_bytes = bytes.len();
    for (j, byte) in bytes.iter_mut().enumerate() {
        let digit = |n: usize| digits.get(n * n_bytes + j).map_or(0, |&digit| u16::from(digit));
        let number = (0..5).fold(0, |number, n| 3 * number + digit(n));
        *byte = (256 * number).div_ceil(243) as u8;
    }
}
