//! From the bytes of a chunk to unsigned codes and scales: one function for each format, in plain Rust that is compiled
//! for each instruction set.
//!
//! An element is scale·(code − offset) − min, where offset belongs to the format, scale and min to a group of elements.
//! A chunk is decoded into a few kilobytes of the first-level cache, and multiplied by all rows of x from there.

use super::blocks::PANEL_ROWS;
use super::chunk::{Decoded, UNIT};
use crate::formats::ternary::{POWERS, digit};
use crate::formats::{IQ4_NL_VALUES, NumberFormat};
use crate::isa::{Isa, multiversion};

/// Four consecutive elements of each row.
type Unit = [u8; UNIT];
/// A byte of each row.
type Bytes = [u8; PANEL_ROWS];
/// A number of each row.
type Numbers = [f32; PANEL_ROWS];

/// How the elements of a format share scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Groups {
    /// Number of elements of a group: 16 or 32.
    pub len: usize,
    /// What is subtracted from each code.
    pub offset: i32,
    /// Whether groups have a minimum.
    pub has_mins: bool,
}

/// The groups of a block format.
///
/// # Panics
/// If the format has no blocks.
pub(super) fn groups(format: NumberFormat) -> Groups {
    let (len, offset, has_mins) = match format {
        NumberFormat::Q8_0 | NumberFormat::Iq4Nl | NumberFormat::Iq4Xs => (32, 128, false),
        NumberFormat::Q4_0 => (32, 8, false),
        NumberFormat::Q5_0 => (32, 16, false),
        NumberFormat::Q4_1 | NumberFormat::Q5_1 | NumberFormat::Q4K | NumberFormat::Q5K => (32, 0, true),
        NumberFormat::Q2K => (16, 0, true),
        NumberFormat::Q3K => (16, 4, false),
        NumberFormat::Q6K => (16, 32, false),
        NumberFormat::Tq1_0 | NumberFormat::Tq2_0 => (32, 1, false),
        NumberFormat::F32 | NumberFormat::F16 | NumberFormat::Bf16 => panic!("groups: {format} has no blocks"),
    };
    Groups { len, offset, has_mins }
}

/// Decodes a chunk of `n_elements` elements of each row.
pub(super) fn decode(isa: Isa, format: NumberFormat, chunk: &[u8], n_elements: usize, to: &mut Decoded<'_>) {
    match format {
        NumberFormat::Q8_0 => q8_0(isa, chunk, n_elements, to),
        NumberFormat::Q4_0 => q4_0(isa, chunk, n_elements, to),
        NumberFormat::Q4_1 => q4_1(isa, chunk, n_elements, to),
        NumberFormat::Q5_0 => q5_0(isa, chunk, n_elements, to),
        NumberFormat::Q5_1 => q5_1(isa, chunk, n_elements, to),
        NumberFormat::Iq4Nl => iq4_nl(isa, chunk, n_elements, to),
        NumberFormat::Q2K => q2_k(isa, chunk, to),
        NumberFormat::Q3K => q3_k(isa, chunk, to),
        NumberFormat::Q4K => q4_k(isa, chunk, to),
        NumberFormat::Q5K => q5_k(isa, chunk, to),
        NumberFormat::Q6K => q6_k(isa, chunk, to),
        NumberFormat::Iq4Xs => iq4_xs(isa, chunk, to),
        NumberFormat::Tq1_0 => tq1_0(isa, chunk, to),
        NumberFormat::Tq2_0 => tq2_0(isa, chunk, to),
        NumberFormat::F32 | NumberFormat::F16 | NumberFormat::Bf16 => panic!("decode: {format} has no blocks"),
    }
}

multiversion! { fn q8_0(chunk: &[u8], n_elements: usize, to: &mut Decoded<'_>) = q8_0_body; }
multiversion! { fn q4_0(chunk: &[u8], n_elements: usize, to: &mut Decoded<'_>) = q4_0_body; }
multiversion! { fn q4_1(chunk: &[u8], n_elements: usize, to: &mut Decoded<'_>) = q4_1_body; }
multiversion! { fn q5_0(chunk: &[u8], n_elements: usize, to: &mut Decoded<'_>) = q5_0_body; }
multiversion! { fn q5_1(chunk: &[u8], n_elements: usize, to: &mut Decoded<'_>) = q5_1_body; }
multiversion! { fn iq4_nl(chunk: &[u8], n_elements: usize, to: &mut Decoded<'_>) = iq4_nl_body; }
multiversion! { fn q2_k(chunk: &[u8], to: &mut Decoded<'_>) = q2_k_body; }
multiversion! { fn q3_k(chunk: &[u8], to: &mut Decoded<'_>) = q3_k_body; }
multiversion! { fn q4_k(chunk: &[u8], to: &mut Decoded<'_>) = q4_k_body; }
multiversion! { fn q5_k(chunk: &[u8], to: &mut Decoded<'_>) = q5_k_body; }
multiversion! { fn q6_k(chunk: &[u8], to: &mut Decoded<'_>) = q6_k_body; }
multiversion! { fn iq4_xs(chunk: &[u8], to: &mut Decoded<'_>) = iq4_xs_body; }
multiversion! { fn tq1_0(chunk: &[u8], to: &mut Decoded<'_>) = tq1_0_body; }
multiversion! { fn tq2_0(chunk: &[u8], to: &mut Decoded<'_>) = tq2_0_body; }

/// Takes a field of `n` times N bytes from the beginning of `bytes`.
#[inline(always)]
fn take<'a, const N: usize>(bytes: &mut &'a [u8], n: usize) -> &'a [[u8; N]] {
    let (field, rest) = bytes.split_at(n * N);
    *bytes = rest;
    field.as_chunks().0
}

/// The value of an f16, infinity and NaN included.
#[inline(always)]
fn half(bits: [u8; 2]) -> f32 {
    /// 2¹¹², the ratio of the smallest exponents.
    const SCALE: f32 = f32::from_bits(0x7780_0000);
    let bits = u32::from(u16::from_le_bytes(bits));
    let (magnitude, sign) = ((bits & 0x7fff) << 13, (bits & 0x8000) << 16);
    let finite = f32::from_bits(magnitude) * SCALE;
    let infinite = f32::from_bits(magnitude | 0x7f80_0000);
    let value = if bits & 0x7c00 == 0x7c00 { infinite } else { finite };
    f32::from_bits(value.to_bits() | sign)
}

/// The f16 of each row.
#[inline(always)]
fn halves(field: &[u8; 2 * PANEL_ROWS]) -> Numbers {
    let mut numbers = [0.0; PANEL_ROWS];
    numbers.iter_mut().zip(field.as_chunks::<2>().0).for_each(|(x, bits)| *x = half(*bits));
    numbers
}

/// The f16 of each row, of each block of 32 elements.
#[inline(always)]
fn block_numbers(bytes: &mut &[u8], n_blocks: usize, to: &mut [Numbers]) {
    let fields = take::<{ 2 * PANEL_ROWS }>(bytes, n_blocks);
    to.iter_mut().zip(fields).for_each(|(to, field)| *to = halves(field));
}

#[inline(always)]
fn each(to: &mut Unit, from: &Unit, f: impl Fn(u8) -> u8) {
    to.iter_mut().zip(from).for_each(|(to, &from)| *to = f(from));
}

/// The low bits of blocks of 32 elements: byte j of a block has element j in its lower half, j + 16 in its upper half.
#[inline(always)]
fn nibbles(units: &[Unit], codes: &mut [Unit], code: impl Fn(u8) -> u8) {
    for (units, codes) in units.as_chunks::<4>().0.iter().zip(codes.as_chunks_mut::<8>().0) {
        let (low, high) = codes.split_at_mut(4);
        for ((unit, low), high) in units.iter().zip(low).zip(high) {
            each(low, unit, |q| code(q & 15));
            each(high, unit, |q| code(q >> 4));
        }
    }
}

/// Sets bit 4 of each code of blocks of 32 elements: bit i of a row's four bytes belongs to element i.
#[inline(always)]
fn fifth_bits(fields: &[Unit], codes: &mut [Unit]) {
    for (field, codes) in fields.iter().zip(codes.as_chunks_mut::<8>().0) {
        for (i, unit) in codes.iter_mut().enumerate() {
            for (code, bits) in unit.as_chunks_mut::<4>().0.iter_mut().zip(field.as_chunks::<4>().0) {
                // Four bits, moved to the lowest bits of four bytes.
                let spread = (u32::from_le_bytes(*bits) >> (4 * i) & 15).wrapping_mul(0x0020_4081) & 0x0101_0101;
                *code = (u32::from_le_bytes(*code) | spread << 4).to_le_bytes();
            }
        }
    }
}

#[inline(always)]
fn q8_0_body(mut chunk: &[u8], n_elements: usize, to: &mut Decoded<'_>) {
    block_numbers(&mut chunk, n_elements / 32, to.scales);
    let units: &[Unit] = take(&mut chunk, n_elements / 4);
    to.codes[..units.len()].copy_from_slice(units);
}

#[inline(always)]
fn q4_0_body(mut chunk: &[u8], n_elements: usize, to: &mut Decoded<'_>) {
    block_numbers(&mut chunk, n_elements / 32, to.scales);
    nibbles(take(&mut chunk, n_elements / 8), to.codes, |q| q);
}

#[inline(always)]
fn q4_1_body(mut chunk: &[u8], n_elements: usize, to: &mut Decoded<'_>) {
    block_numbers(&mut chunk, n_elements / 32, to.scales);
    added(&mut chunk, n_elements / 32, to.mins);
    nibbles(take(&mut chunk, n_elements / 8), to.codes, |q| q);
}

/// What Q4_1 and Q5_1 add: minus the minimum.
#[inline(always)]
fn added(chunk: &mut &[u8], n_blocks: usize, mins: &mut [Numbers]) {
    block_numbers(chunk, n_blocks, mins);
    mins[..n_blocks].iter_mut().flatten().for_each(|min| *min = -*min);
}

#[inline(always)]
fn q5_0_body(mut chunk: &[u8], n_elements: usize, to: &mut Decoded<'_>) {
    block_numbers(&mut chunk, n_elements / 32, to.scales);
    let high = take(&mut chunk, n_elements / 32);
    nibbles(take(&mut chunk, n_elements / 8), to.codes, |q| q);
    fifth_bits(high, to.codes);
}

#[inline(always)]
fn q5_1_body(mut chunk: &[u8], n_elements: usize, to: &mut Decoded<'_>) {
    block_numbers(&mut chunk, n_elements / 32, to.scales);
    added(&mut chunk, n_elements / 32, to.mins);
    let high = take(&mut chunk, n_elements / 32);
    nibbles(take(&mut chunk, n_elements / 8), to.codes, |q| q);
    fifth_bits(high, to.codes);
}

/// The values of IQ4_NL as unsigned codes.
pub(super) const IQ4_CODES: [u8; 16] = {
    let mut codes = [0; 16];
    let mut i = 0;
    while i < 16 {
        codes[i] = (IQ4_NL_VALUES[i] as u8) ^ 0x80;
        i += 1;
    }
    codes
};

#[inline(always)]
fn iq4(q: u8) -> u8 {
    IQ4_CODES[usize::from(q & 15)]
}

#[inline(always)]
fn iq4_nl_body(mut chunk: &[u8], n_elements: usize, to: &mut Decoded<'_>) {
    block_numbers(&mut chunk, n_elements / 32, to.scales);
    nibbles(take(&mut chunk, n_elements / 8), to.codes, iq4);
}

/// d·scale of a group, where `scale` returns the scale of a row.
#[inline(always)]
fn scaled(to: &mut Numbers, d: &Numbers, bytes: &Bytes, scale: impl Fn(u8) -> i8) {
    for ((to, d), &byte) in to.iter_mut().zip(d).zip(bytes) {
        *to = d * f32::from(scale(byte));
    }
}

/// Codes of 2 bits: a run of 32 bytes has 32 elements in its lowest bits, the next 32 in the bits above, and so on.
#[inline(always)]
fn pairs_of_bits(units: &[Unit], codes: &mut [Unit]) {
    for (units, codes) in units.as_chunks::<8>().0.iter().zip(codes.as_chunks_mut::<32>().0) {
        for (j, codes) in codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            codes.iter_mut().zip(units).for_each(|(to, from)| each(to, from, |q| q >> (2 * j) & 3));
        }
    }
}

#[inline(always)]
fn q2_k_body(mut chunk: &[u8], to: &mut Decoded<'_>) {
    let packed = take::<PANEL_ROWS>(&mut chunk, 16);
    pairs_of_bits(take(&mut chunk, 16), to.codes);
    let numbers = take(&mut chunk, 2);
    let (d, dmin) = (halves(&numbers[0]), halves(&numbers[1]));
    for ((packed, scale), min) in packed.iter().zip(to.scales.iter_mut()).zip(to.mins.iter_mut()) {
        scaled(scale, &d, packed, |byte| (byte & 15) as i8);
        scaled(min, &dmin, packed, |byte| (byte >> 4) as i8);
    }
}

#[inline(always)]
fn q3_k_body(mut chunk: &[u8], to: &mut Decoded<'_>) {
    let mask: &[Unit] = take(&mut chunk, 8);
    pairs_of_bits(take(&mut chunk, 16), to.codes);
    for (group, codes) in to.codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        for (codes, mask) in codes.iter_mut().zip(mask) {
            codes.iter_mut().zip(mask).for_each(|(code, mask)| *code |= (mask >> group & 1) << 2);
        }
    }
    let packed: &[Bytes] = take(&mut chunk, 12);
    let d = halves(&take(&mut chunk, 1)[0]);
    for (group, scale) in to.scales.iter_mut().enumerate() {
        let (low, high) = (&packed[group % 8], &packed[8 + group % 4]);
        let mut bits = [0; PANEL_ROWS];
        for ((bits, low), high) in bits.iter_mut().zip(low).zip(high) {
            *bits = low >> (4 * (group / 8)) & 15 | (high >> (2 * (group / 4)) & 3) << 4;
        }
        scaled(scale, &d, &bits, |scale| scale as i8 - 32);
    }
}

/// Scales and minima of the groups of 32 in Q4_K and Q5_K.
#[inline(always)]
fn k_scales(chunk: &mut &[u8], to: &mut Decoded<'_>) {
    let numbers = take(chunk, 2);
    let (d, dmin) = (halves(&numbers[0]), halves(&numbers[1]));
    let packed: &[Bytes] = take(chunk, 12);
    for (group, (scales, mins)) in to.scales.iter_mut().zip(to.mins.iter_mut()).enumerate().take(8) {
        let j = group % 4;
        let (mut scale, mut min) = ([0; PANEL_ROWS], [0; PANEL_ROWS]);
        for row in 0..PANEL_ROWS {
            let (first, second, both) = (packed[j][row], packed[4 + j][row], packed[8 + j][row]);
            (scale[row], min[row]) = match group {
                0..4 => (first & 63, second & 63),
                _ => (both & 15 | first >> 6 << 4, both >> 4 | second >> 6 << 4),
            };
        }
        scaled(scales, &d, &scale, |scale| scale as i8);
        scaled(mins, &dmin, &min, |min| min as i8);
    }
}

/// Codes of 4 bits: a run of 32 bytes has 32 elements in its lower halves, and the next 32 in its upper halves.
#[inline(always)]
fn k_nibbles(units: &[Unit], codes: &mut [Unit]) {
    for (units, codes) in units.as_chunks::<8>().0.iter().zip(codes.as_chunks_mut::<16>().0) {
        let (low, high) = codes.split_at_mut(8);
        for ((unit, low), high) in units.iter().zip(low).zip(high) {
            each(low, unit, |q| q & 15);
            each(high, unit, |q| q >> 4);
        }
    }
}

#[inline(always)]
fn q4_k_body(mut chunk: &[u8], to: &mut Decoded<'_>) {
    k_scales(&mut chunk, to);
    k_nibbles(take(&mut chunk, 32), to.codes);
}

#[inline(always)]
fn q5_k_body(mut chunk: &[u8], to: &mut Decoded<'_>) {
    k_scales(&mut chunk, to);
    let high: &[Unit] = take(&mut chunk, 8);
    k_nibbles(take(&mut chunk, 32), to.codes);
    for (group, codes) in to.codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        for (codes, high) in codes.iter_mut().zip(high) {
            codes.iter_mut().zip(high).for_each(|(code, high)| *code |= (high >> group & 1) << 4);
        }
    }
}

#[inline(always)]
fn q6_k_body(mut chunk: &[u8], to: &mut Decoded<'_>) {
    let (low, high): (&[Unit], &[Unit]) = (take(&mut chunk, 32), take(&mut chunk, 16));
    // A run of 128 elements: the low bits of 64 are in the lower halves of 64 bytes, those of the others above.
    let runs = low.as_chunks::<16>().0.iter().zip(high.as_chunks::<8>().0);
    for ((low, high), codes) in runs.zip(to.codes.as_chunks_mut::<32>().0) {
        for (i, codes) in codes.iter_mut().enumerate() {
            let (low, high, shift) = (&low[i % 16], &high[i % 8], 4 * (i / 16));
            for ((code, low), high) in codes.iter_mut().zip(low).zip(high) {
                *code = low >> shift & 15 | (high >> (2 * (i / 8)) & 3) << 4;
            }
        }
    }
    let packed: &[Bytes] = take(&mut chunk, 16);
    let d = halves(&take(&mut chunk, 1)[0]);
    packed.iter().zip(to.scales.iter_mut()).for_each(|(packed, scale)| scaled(scale, &d, packed, |s| s as i8));
}

#[inline(always)]
fn iq4_xs_body(mut chunk: &[u8], to: &mut Decoded<'_>) {
    let d = halves(&take(&mut chunk, 1)[0]);
    let high: &[[u8; 2 * PANEL_ROWS]] = take(&mut chunk, 1);
    let low: &[Bytes] = take(&mut chunk, 4);
    for (group, scale) in to.scales.iter_mut().enumerate().take(8) {
        let mut bits = [0; PANEL_ROWS];
        for ((bits, low), high) in bits.iter_mut().zip(&low[group / 2]).zip(high[0].as_chunks::<2>().0) {
            let high = (u16::from_le_bytes(*high) >> (2 * group) & 3) as u8;
            *bits = low >> (4 * (group % 2)) & 15 | high << 4;
        }
        scaled(scale, &d, &bits, |scale| scale as i8 - 32);
    }
    nibbles(take(&mut chunk, 32), to.codes, iq4);
}

#[inline(always)]
fn tq1_0_body(mut chunk: &[u8], to: &mut Decoded<'_>) {
    let mut codes = to.codes.iter_mut();
    for (n_units, n_digits) in [(8, 5), (4, 5), (1, 4)] {
        let units: &[Unit] = take(&mut chunk, n_units);
        for &power in &POWERS[..n_digits] {
            units.iter().zip(codes.by_ref().take(n_units)).for_each(|(from, to)| each(to, from, |b| digit(b, power)));
        }
    }
    to.scales[..8].fill(halves(&take(&mut chunk, 1)[0]));
}

#[inline(always)]
fn tq2_0_body(mut chunk: &[u8], to: &mut Decoded<'_>) {
    pairs_of_bits(take(&mut chunk, 16), to.codes);
    to.scales[..8].fill(halves(&take(&mut chunk, 1)[0]));
}
