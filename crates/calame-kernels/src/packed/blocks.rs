//! Panels of the block formats: the blocks of sixteen rows, interleaved.
//!
//! A panel consists of chunks of up to 256 elements of each row: one block of a K or ternary format, or up to eight
//! blocks of 32 elements. A chunk holds the fields of its blocks one after another; a field is divided into units of 2
//! or 4 bytes (1 byte for the scales of some formats), and the units of the same place of all rows are adjacent: [block
//! of the chunk, unit, row].

use super::raw::{cast, cast_mut};
use super::shape::PackedShape;
use crate::formats::{NumberFormat, dequantize};

/// Rows of a panel: the lanes of a vector of 64 bytes, with four bytes each.
pub(super) const PANEL_ROWS: usize = 16;
/// Most elements of each row in a chunk.
pub(super) const CHUNK_LEN: usize = 256;
/// The highest bit of each code of Q8_0 is inverted, which makes it the code plus 128.
const Q8_BIAS: u8 = 0x80;

/// A field of a block.
#[derive(Clone, Copy)]
pub(super) struct Field {
    /// Its size in a block, in bytes.
    pub len: usize,
    /// Bytes of a row that stay together.
    pub unit: usize,
}

const fn field(len: usize, unit: usize) -> Field {
    Field { len, unit }
}

/// The fields of a format's block, in the file's order.
pub(super) fn fields(format: NumberFormat) -> &'static [Field] {
    const HALF: Field = field(2, 2);
    const NIBBLES: Field = field(16, 4);
    const K_SCALES: Field = field(12, 1);
    match format {
        NumberFormat::Q8_0 => const { &[HALF, field(32, 4)] },
        NumberFormat::Q4_0 | NumberFormat::Iq4Nl => const { &[HALF, NIBBLES] },
        NumberFormat::Q4_1 => const { &[HALF, HALF, NIBBLES] },
        NumberFormat::Q5_0 => const { &[HALF, field(4, 4), NIBBLES] },
        NumberFormat::Q5_1 => const { &[HALF, HALF, field(4, 4), NIBBLES] },
        NumberFormat::Q2K => const { &[field(16, 1), field(64, 4), HALF, HALF] },
        NumberFormat::Q3K => const { &[field(32, 4), field(64, 4), K_SCALES, HALF] },
        NumberFormat::Q4K => const { &[HALF, HALF, K_SCALES, field(128, 4)] },
        NumberFormat::Q5K => const { &[HALF, HALF, K_SCALES, field(32, 4), field(128, 4)] },
        NumberFormat::Q6K => const { &[field(128, 4), field(64, 4), field(16, 1), HALF] },
        NumberFormat::Iq4Xs => const { &[HALF, HALF, field(4, 1), field(128, 4)] },
        NumberFormat::Tq1_0 => const { &[field(32, 4), field(16, 4), field(4, 4), HALF] },
        NumberFormat::Tq2_0 => const { &[field(64, 4), HALF] },
        NumberFormat::F32 | NumberFormat::F16 | NumberFormat::Bf16 => &[],
    }
}

/// The fields that are numbers in f16: those whose values may be infinite or NaN.
fn is_number(format: NumberFormat, index: usize) -> bool {
    let field = fields(format)[index];
    // The second field of IQ4_XS holds bits of its scales.
    field.len == 2 && !(format == NumberFormat::Iq4Xs && index == 1)
}

/// Number of chunks of a row.
pub(super) fn n_chunks(shape: &PackedShape) -> usize {
    shape.cols.div_ceil(CHUNK_LEN)
}

/// Number of elements of each row in chunk `i`.
pub(super) fn chunk_len(shape: &PackedShape, i: usize) -> usize {
    CHUNK_LEN.min(shape.cols - i * CHUNK_LEN)
}

fn chunk_bytes(shape: &PackedShape, n_elements: usize) -> usize {
    n_elements / shape.format.block_len() * shape.format.block_bytes() * PANEL_ROWS
}

pub(super) fn panel_len(shape: &PackedShape) -> usize {
    chunk_bytes(shape, shape.cols) / 4
}

/// The bytes of chunk `i` of a panel.
pub(super) fn chunk<'a>(shape: &PackedShape, panel: &'a [f32], i: usize) -> &'a [u8] {
    let start = chunk_bytes(shape, i * CHUNK_LEN);
    &cast::<u8>(panel)[start..start + chunk_bytes(shape, chunk_len(shape, i))]
}

/// Where the fields of a block are: for each field of each block of a chunk, where its first unit begins in the
/// chunk, where it begins in the chunk of a row in the file's order, and its index.
fn places(format: NumberFormat, n_blocks: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let mut offset = 0;
    fields(format).iter().enumerate().flat_map(move |(index, field)| {
        let start = offset;
        offset += field.len;
        let place = move |block: usize| {
            let interleaved = PANEL_ROWS * (start * n_blocks + block * field.len);
            (interleaved, block * format.block_bytes() + start, index)
        };
        (0..n_blocks).map(place)
    })
}

pub(super) fn write_panel(shape: &PackedShape, panel: &mut [f32], bytes: &[u8]) {
    let (format, row_bytes) = (shape.format, shape.row_bytes());
    let panel = cast_mut::<u8>(panel);
    panel.fill(0);
    for i in 0..n_chunks(shape) {
        let (start, n_bytes) = (chunk_bytes(shape, i * CHUNK_LEN), chunk_bytes(shape, chunk_len(shape, i)));
        let (to, n_blocks) = (&mut panel[start..start + n_bytes], chunk_len(shape, i) / format.block_len());
        for (row, from) in bytes.chunks_exact(row_bytes).enumerate() {
            let from = &from[start / PANEL_ROWS..][..n_bytes / PANEL_ROWS];
            for (interleaved, at, index) in places(format, n_blocks) {
                let Field { len, unit } = fields(format)[index];
                let (from, to) = (&from[at..at + len], &mut to[interleaved..interleaved + PANEL_ROWS * len]);
                match unit {
                    1 => scatter::<1>(from, row, to),
                    2 => scatter::<2>(from, row, to),
                    _ => scatter::<4>(from, row, to),
                }
            }
        }
        if format == NumberFormat::Q8_0 {
            // Rows that the panel lacks have scales of 0.
            to[PANEL_ROWS * 2 * n_blocks..].iter_mut().for_each(|code| *code ^= Q8_BIAS);
        }
    }
}

/// Writes the units of a row's field among those of the other rows.
fn scatter<const UNIT: usize>(from: &[u8], row: usize, to: &mut [u8]) {
    let places = to.as_chunks_mut::<UNIT>().0.iter_mut().skip(row).step_by(PANEL_ROWS);
    from.as_chunks::<UNIT>().0.iter().zip(places).for_each(|(from, to)| *to = *from);
}

/// Reads the units of a row's field.
fn gather<const UNIT: usize>(from: &[u8], row: usize, to: &mut [u8]) {
    let places = from.as_chunks::<UNIT>().0.iter().skip(row).step_by(PANEL_ROWS);
    to.as_chunks_mut::<UNIT>().0.iter_mut().zip(places).for_each(|(to, from)| *to = *from);
}

pub(super) fn read_row(shape: &PackedShape, panel: &[f32], row: usize, out: &mut [f32]) {
    // The largest chunk is that of Q8_0.
    let mut bytes = [0; CHUNK_LEN / 32 * 34];
    let format = shape.format;
    for (i, out) in out.chunks_mut(CHUNK_LEN).enumerate() {
        let (chunk, n_blocks) = (chunk(shape, panel, i), out.len() / format.block_len());
        let bytes = &mut bytes[..n_blocks * format.block_bytes()];
        for (interleaved, at, index) in places(format, n_blocks) {
            let Field { len, unit } = fields(format)[index];
            let (from, to) = (&chunk[interleaved..interleaved + PANEL_ROWS * len], &mut bytes[at..at + len]);
            match unit {
                1 => gather::<1>(from, row, to),
                2 => gather::<2>(from, row, to),
                _ => gather::<4>(from, row, to),
            }
            if format == NumberFormat::Q8_0 && index == 1 {
                to.iter_mut().for_each(|code| *code ^= Q8_BIAS);
            }
        }
        dequantize(format, bytes, out);
    }
}

pub(super) fn is_finite(shape: &PackedShape, panel: &[f32]) -> bool {
    const EXPONENT: u16 = 0x7c00;
    (0..n_chunks(shape)).all(|i| {
        let chunk = chunk(shape, panel, i);
        let n_blocks = chunk_len(shape, i) / shape.format.block_len();
        places(shape.format, n_blocks).filter(|&(.., index)| is_number(shape.format, index)).all(|(at, ..)| {
            let numbers = chunk[at..at + 2 * PANEL_ROWS].as_chunks::<2>().0;
            numbers.iter().all(|bytes| u16::from_le_bytes(*bytes) & EXPONENT != EXPONENT)
        })
    })
}
