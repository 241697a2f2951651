//! The ternary formats: blocks of 256 elements with one scale.

use super::format::{ChunkScales, Fields, Format};
use super::k::shifted;
use super::lanes::Lanes;
use crate::formats::ternary::POWERS;

/// Codes and the scale of a chunk.
pub struct Ternary<L: Lanes> {
    codes: Fields,
    d: L::Floats,
}

impl<L: Lanes> ChunkScales<L> for Ternary<L> {
    #[inline(always)]
    unsafe fn scale(&self, _: usize) -> L::Floats {
        self.d
    }
    /// There are no minima.
    #[inline(always)]
    unsafe fn min(&self, _: usize) -> L::Floats {
        // SAFETY: promised by the caller.
        unsafe { L::zero() }
    }
}

pub struct Tq2_0;

impl<L: Lanes> Format<L> for Tq2_0 {
    const PARTS: usize = 1;
    const HAS_MINS: bool = false;
    const IS_WIDE: bool = false;
    type Chunk = Ternary<L>;

    #[inline(always)]
    unsafe fn open(fields: &mut Fields, _: usize) -> Ternary<L> {
        // SAFETY: promised by the caller.
        unsafe { Ternary { codes: fields.take(64), d: fields.take(2).number::<L>(0) } }
    }
    #[inline(always)]
    unsafe fn units(chunk: &Ternary<L>, block: usize) -> [L::Bytes; 8] {
        // SAFETY: promised by the caller.
        unsafe { shifted::<L>(&chunk.codes, block / 4 * 8, 2 * (block % 4), 3) }
    }
}

/// Runs of 8, 4 and 1 units, which have 5, 5 and 4 digits.
pub struct Tq1_0;

impl<L: Lanes> Format<L> for Tq1_0 {
    const PARTS: usize = 1;
    const HAS_MINS: bool = false;
    const IS_WIDE: bool = false;
    type Chunk = Ternary<L>;

    #[inline(always)]
    unsafe fn open(fields: &mut Fields, _: usize) -> Ternary<L> {
        // SAFETY: promised by the caller.
        unsafe { Ternary { codes: fields.take(52), d: fields.take(2).number::<L>(0) } }
    }
    #[inline(always)]
    unsafe fn units(chunk: &Ternary<L>, block: usize) -> [L::Bytes; 8] {
        // SAFETY: promised by the caller.
        unsafe {
            let mut codes = [L::splat(0); 8];
            for (i, codes) in codes.iter_mut().enumerate() {
                let (unit, n) = match block {
                    0..5 => (i, block),
                    5 | 6 => (8 + i % 4, 2 * (block - 5) + i / 4),
                    _ if i < 4 => (8 + i, 4),
                    _ => (12, i - 4),
                };
                *codes = digits::<L>(&chunk.codes, unit, n);
            }
            codes
        }
    }
}

/// Digit `n` of the bytes of a unit. The power moves it to the top of a byte, which is a fraction of 256: the digit is the
/// number of thirds below it.
#[inline(always)]
unsafe fn digits<L: Lanes>(field: &Fields, unit: usize, n: usize) -> L::Bytes {
    // SAFETY: promised by the caller.
    unsafe {
        let moved = L::multiply_bytes(field.unit::<L>(unit), POWERS[n]);
        L::add_bytes(L::is_above(moved, 85), L::is_above(moved, 170))
    }
}
