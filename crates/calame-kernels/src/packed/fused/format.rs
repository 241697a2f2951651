//! The formats with blocks of 32 elements, from the bytes of a chunk to codes and scales in registers.

use super::lanes::Lanes;
use crate::packed::blocks::PANEL_ROWS;
use crate::packed::codes::IQ4_CODES;

/// A number format, decoded by vectors L. An element is scale·(code − offset) − min.
///
/// # Safety
/// Every function needs the processor to have the instructions of L, and a chunk of the format.
///
/// Functions of vectors have loops, not closures: those would be compiled without the instructions, unless the compiler
/// happens to inline them in time.
pub trait Format<L: Lanes> {
    /// Groups with a scale of their own in 32 elements: 1 or 2.
    const PARTS: usize;
    /// Whether groups have a minimum.
    const HAS_MINS: bool;
    /// Whether codes exceed 127.
    const IS_WIDE: bool;
    /// What is known of a chunk.
    type Chunk: ChunkScales<L>;

    /// The chunk of `n_blocks` blocks of 32 elements at the beginning of `fields`, which it takes.
    unsafe fn open(fields: &mut Fields, n_blocks: usize) -> Self::Chunk;
    /// The codes of a block: eight times four of each row.
    unsafe fn units(chunk: &Self::Chunk, block: usize) -> [L::Bytes; 8];
}

/// Where the fields of a chunk are, and the scales and minima of its groups.
///
/// # Safety
/// Every function needs the processor to have the instructions of L, and a group of the chunk.
pub trait ChunkScales<L: Lanes> {
    unsafe fn scale(&self, group: usize) -> L::Floats;
    /// The minimum of a group, in a format that has minima.
    unsafe fn min(&self, group: usize) -> L::Floats;
}

/// The rest of a panel from a field on, and the first of the rows that are read.
#[derive(Clone, Copy)]
pub struct Fields {
    pub at: *const u8,
    pub row: usize,
}

impl Fields {
    /// The field of `n` bytes a row at the beginning; the rest follows it.
    #[inline(always)]
    pub unsafe fn take(&mut self, n: usize) -> Fields {
        let field = *self;
        // SAFETY: the caller's chunk has the field.
        self.at = unsafe { self.at.add(n * PANEL_ROWS) };
        field
    }

    /// The unit of four bytes a row with index `i`.
    #[inline(always)]
    pub unsafe fn unit<L: Lanes>(&self, i: usize) -> L::Bytes {
        // SAFETY: the caller's field has the unit.
        unsafe { L::load(self.at.add((i * PANEL_ROWS + self.row) * 4)) }
    }

    /// The f16 of each row with index `i`.
    #[inline(always)]
    pub unsafe fn number<L: Lanes>(&self, i: usize) -> L::Floats {
        // SAFETY: the caller's field has the number.
        unsafe { L::from_f16(self.at.add((i * PANEL_ROWS + self.row) * 2)) }
    }

    /// The byte of each row with index `i`.
    #[inline(always)]
    pub unsafe fn bytes(&self, i: usize) -> *const [u8; PANEL_ROWS] {
        // SAFETY: the caller's field has the bytes.
        unsafe { self.at.add(i * PANEL_ROWS).cast() }
    }
}

/// The low four bits of `units(i)` for i from 0 to 3, then the high ones.
#[inline(always)]
unsafe fn nibbles<L: Lanes>(field: &Fields, first: usize) -> [L::Bytes; 8] {
    // SAFETY: promised by the caller.
    unsafe {
        let mask = L::splat(15);
        let mut codes = [mask; 8];
        for i in 0..4 {
            let unit = field.unit::<L>(first + i);
            codes[i] = L::and(unit, mask);
            codes[4 + i] = L::and(L::shift_right(unit, 4), mask);
        }
        codes
    }
}

/// A chunk of blocks of 32 elements. Fields that the format lacks are those of the scales.
pub struct Blocks {
    scales: Fields,
    mins: Fields,
    high: Fields,
    codes: Fields,
}

impl<L: Lanes> ChunkScales<L> for Blocks {
    #[inline(always)]
    unsafe fn scale(&self, group: usize) -> L::Floats {
        // SAFETY: promised by the caller.
        unsafe { self.scales.number::<L>(group) }
    }
    /// The file has what is added: minus the minimum.
    #[inline(always)]
    unsafe fn min(&self, group: usize) -> L::Floats {
        // SAFETY: promised by the caller.
        unsafe { L::multiply(self.mins.number::<L>(group), L::broadcast(-1.0)) }
    }
}

/// Q8_0, whose codes are stored plus 128.
pub struct Q8_0;

impl<L: Lanes> Format<L> for Q8_0 {
    const PARTS: usize = 1;
    const HAS_MINS: bool = false;
    const IS_WIDE: bool = true;
    type Chunk = Blocks;

    #[inline(always)]
    unsafe fn open(fields: &mut Fields, n_blocks: usize) -> Blocks {
        // SAFETY: promised by the caller.
        unsafe {
            let scales = fields.take(2 * n_blocks);
            Blocks { scales, mins: scales, high: scales, codes: fields.take(32 * n_blocks) }
        }
    }
    #[inline(always)]
    unsafe fn units(chunk: &Blocks, block: usize) -> [L::Bytes; 8] {
        // SAFETY: promised by the caller.
        unsafe {
            let mut codes = [L::splat(0); 8];
            for (i, codes) in codes.iter_mut().enumerate() {
                *codes = chunk.codes.unit::<L>(8 * block + i);
            }
            codes
        }
    }
}

/// Q4_0, Q4_1, Q5_0 and Q5_1: with a minimum or not, with a fifth bit or not.
pub struct Nibbles<const HAS_MINS: bool, const HAS_FIFTH: bool>;

impl<L: Lanes, const HAS_MINS: bool, const HAS_FIFTH: bool> Format<L> for Nibbles<HAS_MINS, HAS_FIFTH> {
    const PARTS: usize = 1;
    const HAS_MINS: bool = HAS_MINS;
    const IS_WIDE: bool = false;
    type Chunk = Blocks;

    #[inline(always)]
    unsafe fn open(fields: &mut Fields, n_blocks: usize) -> Blocks {
        // SAFETY: promised by the caller.
        unsafe {
            let scales = fields.take(2 * n_blocks);
            let mins = if HAS_MINS { fields.take(2 * n_blocks) } else { scales };
            let high = if HAS_FIFTH { fields.take(4 * n_blocks) } else { scales };
            Blocks { scales, mins, high, codes: fields.take(16 * n_blocks) }
        }
    }
    #[inline(always)]
    unsafe fn units(chunk: &Blocks, block: usize) -> [L::Bytes; 8] {
        // SAFETY: promised by the caller.
        unsafe {
            let mut codes = nibbles::<L>(&chunk.codes, 4 * block);
            if HAS_FIFTH {
                let high = chunk.high.unit::<L>(block);
                for (i, codes) in codes.iter_mut().enumerate() {
                    *codes = L::or(*codes, L::spread(high, i as u32));
                }
            }
            codes
        }
    }
}

/// IQ4_NL: four bits select a code.
pub struct Iq4Nl;

impl<L: Lanes> Format<L> for Iq4Nl {
    const PARTS: usize = 1;
    const HAS_MINS: bool = false;
    const IS_WIDE: bool = true;
    type Chunk = Blocks;

    #[inline(always)]
    unsafe fn open(fields: &mut Fields, n_blocks: usize) -> Blocks {
        // SAFETY: promised by the caller.
        unsafe { <Nibbles<false, false> as Format<L>>::open(fields, n_blocks) }
    }
    #[inline(always)]
    unsafe fn units(chunk: &Blocks, block: usize) -> [L::Bytes; 8] {
        // SAFETY: promised by the caller.
        unsafe { selected::<L>(&chunk.codes, block) }
    }
}

/// The codes of IQ4 that the four bits of a block select.
#[inline(always)]
pub unsafe fn selected<L: Lanes>(codes: &Fields, block: usize) -> [L::Bytes; 8] {
    // SAFETY: promised by the caller.
    unsafe {
        let mut codes = nibbles::<L>(codes, 4 * block);
        for codes in &mut codes {
            *codes = L::look_up(&IQ4_CODES, *codes);
        }
        codes
    }
}
