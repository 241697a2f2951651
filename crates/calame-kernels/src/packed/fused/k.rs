//! The K formats and IQ4_XS: blocks of 256 elements, whose groups have scales of a few bits.

use super::format::{ChunkScales, Fields, Format, selected};
use super::lanes::Lanes;
use crate::packed::blocks::PANEL_ROWS;

/// A byte of each row.
type Bytes = [u8; PANEL_ROWS];

/// A chunk whose groups have scales of one byte: scale = d·byte, and min = dmin·byte.
pub struct Scaled<L: Lanes, const N: usize> {
    codes: Fields,
    high: Fields,
    d: L::Floats,
    dmin: L::Floats,
    /// First of the rows that are read.
    row: usize,
    scales: [Bytes; N],
    mins: [Bytes; N],
}

impl<L: Lanes, const N: usize> ChunkScales<L> for Scaled<L, N> {
    #[inline(always)]
    unsafe fn scale(&self, group: usize) -> L::Floats {
        // SAFETY: promised by the caller; a vector has the bytes of its rows.
        unsafe { L::multiply(self.d, L::from_i8(self.scales[group].as_ptr().add(self.row))) }
    }
    #[inline(always)]
    unsafe fn min(&self, group: usize) -> L::Floats {
        // SAFETY: as above.
        unsafe { L::multiply(self.dmin, L::from_i8(self.mins[group].as_ptr().add(self.row))) }
    }
}

/// Units `first..first + 8` of a field, shifted by `shift` bits and masked.
#[inline(always)]
pub unsafe fn shifted<L: Lanes>(field: &Fields, first: usize, shift: usize, mask: u8) -> [L::Bytes; 8] {
    // SAFETY: promised by the caller.
    unsafe {
        let mask = L::splat(mask);
        let mut units = [mask; 8];
        for (i, unit) in units.iter_mut().enumerate() {
            *unit = L::and(L::shift_right(field.unit::<L>(first + i), shift as u32), mask);
        }
        units
    }
}

/// Sets bits of codes: those of units `first..first + 8` of a field, shifted by `shift` bits, masked, and moved up by `up`.
#[inline(always)]
unsafe fn with_high<L: Lanes>(
    mut codes: [L::Bytes; 8],
    field: &Fields,
    first: usize,
    shift: usize,
    mask: u8,
    up: u32,
) -> [L::Bytes; 8] {
    // SAFETY: promised by the caller.
    unsafe {
        let high = shifted::<L>(field, first, shift, mask);
        for (codes, high) in codes.iter_mut().zip(high) {
            *codes = L::or(*codes, L::shift_left(high, up));
        }
        codes
    }
}

pub struct Q2K;

impl<L: Lanes> Format<L> for Q2K {
    const PARTS: usize = 2;
    const HAS_MINS: bool = true;
    const IS_WIDE: bool = false;
    type Chunk = Scaled<L, 16>;

    #[inline(always)]
    unsafe fn open(fields: &mut Fields, _: usize) -> Scaled<L, 16> {
        // SAFETY: promised by the caller.
        unsafe {
            let packed = fields.take(16);
            let (codes, d, dmin) = (fields.take(64), fields.take(2), fields.take(2));
            let (mut scales, mut mins) = ([[0; PANEL_ROWS]; 16], [[0; PANEL_ROWS]; 16]);
            for group in 0..16 {
                let packed = &*packed.bytes(group);
                for row in 0..PANEL_ROWS {
                    scales[group][row] = packed[row] & 15;
                    mins[group][row] = packed[row] >> 4;
                }
            }
            let (d, dmin) = (d.number::<L>(0), dmin.number::<L>(0));
            Scaled { codes, high: codes, d, dmin, row: fields.row, scales, mins }
        }
    }
    #[inline(always)]
    unsafe fn units(chunk: &Self::Chunk, block: usize) -> [L::Bytes; 8] {
        // SAFETY: promised by the caller.
        unsafe { shifted::<L>(&chunk.codes, block / 4 * 8, 2 * (block % 4), 3) }
    }
}

pub struct Q3K;

impl<L: Lanes> Format<L> for Q3K {
    const PARTS: usize = 2;
    const HAS_MINS: bool = false;
    const IS_WIDE: bool = false;
    type Chunk = Scaled<L, 16>;

    #[inline(always)]
    unsafe fn open(fields: &mut Fields, _: usize) -> Scaled<L, 16> {
        // SAFETY: promised by the caller.
        unsafe {
            let (high, codes, packed, d) = (fields.take(32), fields.take(64), fields.take(12), fields.take(2));
            let mut scales = [[0; PANEL_ROWS]; 16];
            for (group, scales) in scales.iter_mut().enumerate() {
                let (low, high) = (&*packed.bytes(group % 8), &*packed.bytes(8 + group % 4));
                for row in 0..PANEL_ROWS {
                    let bits = low[row] >> (4 * (group / 8)) & 15 | (high[row] >> (2 * (group / 4)) & 3) << 4;
                    scales[row] = bits.wrapping_sub(32);
                }
            }
            let d = d.number::<L>(0);
            Scaled { codes, high, d, dmin: d, row: fields.row, scales, mins: [[0; PANEL_ROWS]; 16] }
        }
    }
    #[inline(always)]
    unsafe fn units(chunk: &Self::Chunk, block: usize) -> [L::Bytes; 8] {
        // SAFETY: promised by the caller.
        unsafe {
            let low = shifted::<L>(&chunk.codes, block / 4 * 8, 2 * (block % 4), 3);
            with_high::<L>(low, &chunk.high, 0, block, 1, 2)
        }
    }
}

/// Q4_K, or Q5_K with a fifth bit.
pub struct Q4K<const HAS_FIFTH: bool>;

impl<L: Lanes, const HAS_FIFTH: bool> Format<L> for Q4K<HAS_FIFTH> {
    const PARTS: usize = 1;
    const HAS_MINS: bool = true;
    const IS_WIDE: bool = false;
    type Chunk = Scaled<L, 8>;

    #[inline(always)]
    unsafe fn open(fields: &mut Fields, _: usize) -> Scaled<L, 8> {
        // SAFETY: promised by the caller.
        unsafe {
            let (d, dmin, packed) = (fields.take(2), fields.take(2), fields.take(12));
            let high = if HAS_FIFTH { fields.take(32) } else { packed };
            let (mut scales, mut mins) = ([[0; PANEL_ROWS]; 8], [[0; PANEL_ROWS]; 8]);
            for j in 0..4 {
                let (first, second, both) = (&*packed.bytes(j), &*packed.bytes(4 + j), &*packed.bytes(8 + j));
                for row in 0..PANEL_ROWS {
                    scales[j][row] = first[row] & 63;
                    mins[j][row] = second[row] & 63;
                    scales[4 + j][row] = both[row] & 15 | first[row] >> 6 << 4;
                    mins[4 + j][row] = both[row] >> 4 | second[row] >> 6 << 4;
                }
            }
            let (d, dmin) = (d.number::<L>(0), dmin.number::<L>(0));
            Scaled { codes: fields.take(128), high, d, dmin, row: fields.row, scales, mins }
        }
    }
    #[inline(always)]
    unsafe fn units(chunk: &Self::Chunk, block: usize) -> [L::Bytes; 8] {
        // SAFETY: promised by the caller.
        unsafe {
            let low = shifted::<L>(&chunk.codes, block / 2 * 8, 4 * (block % 2), 15);
            if HAS_FIFTH { with_high::<L>(low, &chunk.high, 0, block, 1, 4) } else { low }
        }
    }
}

pub struct Q6K;

impl<L: Lanes> Format<L> for Q6K {
    const PARTS: usize = 2;
    const HAS_MINS: bool = false;
    const IS_WIDE: bool = false;
    type Chunk = Scaled<L, 16>;

    #[inline(always)]
    unsafe fn open(fields: &mut Fields, _: usize) -> Scaled<L, 16> {
        // SAFETY: promised by the caller.
        unsafe {
            let (codes, high, packed, d) = (fields.take(128), fields.take(64), fields.take(16), fields.take(2));
            let (scales, d) = (*packed.at.cast::<[Bytes; 16]>(), d.number::<L>(0));
            Scaled { codes, high, d, dmin: d, row: fields.row, scales, mins: [[0; PANEL_ROWS]; 16] }
        }
    }
    #[inline(always)]
    unsafe fn units(chunk: &Self::Chunk, block: usize) -> [L::Bytes; 8] {
        // SAFETY: promised by the caller.
        unsafe {
            // A run of 128 elements: the low bits of 64 are in the lower halves of 64 bytes, those of the others above.
            let (run, part) = (block / 4, block % 4);
            let low = shifted::<L>(&chunk.codes, 16 * run + 8 * (part % 2), 4 * (part / 2), 15);
            with_high::<L>(low, &chunk.high, 8 * run, 2 * part, 3, 4)
        }
    }
}

pub struct Iq4Xs;

impl<L: Lanes> Format<L> for Iq4Xs {
    const PARTS: usize = 1;
    const HAS_MINS: bool = false;
    const IS_WIDE: bool = true;
    type Chunk = Scaled<L, 8>;

    #[inline(always)]
    unsafe fn open(fields: &mut Fields, _: usize) -> Scaled<L, 8> {
        // SAFETY: promised by the caller.
        unsafe {
            let (d, high, low, codes) = (fields.take(2), fields.take(2), fields.take(4), fields.take(128));
            let high = &*high.at.cast::<[[u8; 2]; PANEL_ROWS]>();
            let mut scales = [[0; PANEL_ROWS]; 8];
            for (group, scales) in scales.iter_mut().enumerate() {
                let low = &*low.bytes(group / 2);
                for row in 0..PANEL_ROWS {
                    let high = (u16::from_le_bytes(high[row]) >> (2 * group) & 3) as u8;
                    scales[row] = (low[row] >> (4 * (group % 2)) & 15 | high << 4).wrapping_sub(32);
                }
            }
            let d = d.number::<L>(0);
            Scaled { codes, high: codes, d, dmin: d, row: fields.row, scales, mins: [[0; PANEL_ROWS]; 8] }
        }
    }
    #[inline(always)]
    unsafe fn units(chunk: &Self::Chunk, block: usize) -> [L::Bytes; 8] {
        // SAFETY: promised by the caller.
        unsafe { selected::<L>(&chunk.codes, block) }
    }
}
