//! The loop over a panel, for any format and vectors.

use super::format::{ChunkScales, Fields, Format};
use super::lanes::Lanes;
use super::operands::PanelOperands;
use crate::packed::activations::BLOCK;
use crate::packed::blocks::{CHUNK_LEN, PANEL_ROWS};

/// Bytes that are loaded ahead of the products: the processor's own prefetching ends at every 4 kB, and the products of
/// a block take longer than its bytes.
const AHEAD: usize = 4096;

/// The kernel of a number format and a number of rows.
macro_rules! select {
    ($kernel:ident, $format:expr, $n_rows:expr) => {{
        use $crate::packed::fused::{format::*, k::*, ternary::*};
        use $crate::packed::fused::product::by_rows;
        Some(match $format {
            NumberFormat::Q8_0 => by_rows!($kernel, $n_rows, Q8_0),
            NumberFormat::Q4_0 => by_rows!($kernel, $n_rows, Nibbles<false, false>),
            NumberFormat::Q4_1 => by_rows!($kernel, $n_rows, Nibbles<true, false>),
            NumberFormat::Q5_0 => by_rows!($kernel, $n_rows, Nibbles<false, true>),
            NumberFormat::Q5_1 => by_rows!($kernel, $n_rows, Nibbles<true, true>),
            NumberFormat::Iq4Nl => by_rows!($kernel, $n_rows, Iq4Nl),
            NumberFormat::Iq4Xs => by_rows!($kernel, $n_rows, Iq4Xs),
            NumberFormat::Q2K => by_rows!($kernel, $n_rows, Q2K),
            NumberFormat::Q3K => by_rows!($kernel, $n_rows, Q3K),
            NumberFormat::Q4K => by_rows!($kernel, $n_rows, Q4K<false>),
            NumberFormat::Q5K => by_rows!($kernel, $n_rows, Q4K<true>),
            NumberFormat::Q6K => by_rows!($kernel, $n_rows, Q6K),
            NumberFormat::Tq1_0 => by_rows!($kernel, $n_rows, Tq1_0),
            NumberFormat::Tq2_0 => by_rows!($kernel, $n_rows, Tq2_0),
            NumberFormat::F32 | NumberFormat::F16 | NumberFormat::Bf16 => return None,
        })
    }};
}
pub(super) use select;

/// The instance of a kernel for a number of rows.
macro_rules! by_rows {
    ($kernel:ident, $n_rows:expr, $format:ty) => {
        match $n_rows {
            1 => $kernel::<1, $format> as Fused,
            2 => $kernel::<2, $format>,
            3 => $kernel::<3, $format>,
            4 => $kernel::<4, $format>,
            _ => $kernel::<8, $format>,
        }
    };
}
pub(super) use by_rows;

/// The parts of a row of x.
#[derive(Clone, Copy)]
struct Row {
    codes: *const i8,
    scales: *const f32,
    offsets: *const i32,
    sums: *const f32,
}

impl Row {
    fn of(operands: &PanelOperands<'_>, i: usize) -> Row {
        let (x, row) = (operands.x, operands.first_row + i);
        let n_blocks = x.len / BLOCK;
        Row {
            codes: x.codes[row * x.len..][..x.len].as_ptr(),
            scales: x.scales[row * n_blocks..][..n_blocks].as_ptr(),
            offsets: x.offsets[row * x.n_groups..][..x.n_groups].as_ptr(),
            sums: x.sums[row * x.n_groups..][..x.n_groups].as_ptr(),
        }
    }
}

/// Overwrites the sums of M rows of x.
///
/// # Safety
/// The processor has the instructions of L; the panel holds sixteen rows of `cols` elements in the format F, and x has the
/// groups of that format.
#[inline(always)]
pub unsafe fn product<const M: usize, L: Lanes, F: Format<L>>(
    operands: &PanelOperands<'_>,
    sums: &mut [[f32; PANEL_ROWS]],
) {
    assert!(sums.len() == M, "fused: {} rows", sums.len());
    let rows: [Row; M] = std::array::from_fn(|i| Row::of(operands, i));
    for row in (0..PANEL_ROWS).step_by(L::ROWS) {
        // SAFETY: promised by the caller; a chunk follows the one before it.
        unsafe {
            let mut totals = [L::zero(); M];
            let mut fields = Fields { at: operands.panel.as_ptr(), row };
            for first in (0..operands.cols).step_by(CHUNK_LEN) {
                let n_blocks = CHUNK_LEN.min(operands.cols - first) / BLOCK;
                let start = fields.at;
                let chunk = F::open(&mut fields, n_blocks);
                let block_bytes = fields.at.offset_from_unsigned(start) / n_blocks;
                for block in 0..n_blocks {
                    for line in (0..block_bytes).step_by(64) {
                        L::prefetch(start.wrapping_add(AHEAD + block * block_bytes + line));
                    }
                    add_block::<M, L, F>(&chunk, block, first / BLOCK + block, &rows, &mut totals);
                }
            }
            for (sums, total) in sums.iter_mut().zip(totals) {
                L::store(total, sums.as_mut_ptr().add(row));
            }
        }
    }
}

/// Adds the products of 32 elements: those of `block` in the chunk, `x_block` in a row of x.
#[inline(always)]
unsafe fn add_block<const M: usize, L: Lanes, F: Format<L>>(
    chunk: &F::Chunk,
    block: usize,
    x_block: usize,
    rows: &[Row; M],
    totals: &mut [L::Floats; M],
) {
    let n_units = 8 / F::PARTS;
    // SAFETY: promised by the caller.
    unsafe {
        let units = F::units(chunk, block);
        for part in 0..F::PARTS {
            let (group, x_group) = (block * F::PARTS + part, x_block * F::PARTS + part);
            let scale = chunk.scale(group);
            let mut dots = [L::start(0); M];
            for (row, dot) in rows.iter().zip(&mut dots) {
                let offset = *row.offsets.add(x_group);
                *dot = if F::IS_WIDE { L::start_wide(offset) } else { L::start(offset) };
            }
            // Row after row within a unit: a product need not wait for the one before it.
            for (unit, &codes) in units[part * n_units..][..n_units].iter().enumerate() {
                for (row, dot) in rows.iter().zip(&mut dots) {
                    let x = row.codes.add(BLOCK * x_block + 4 * (part * n_units + unit));
                    *dot =
                        if F::IS_WIDE { L::add_wide_products(*dot, codes, x) } else { L::add_products(*dot, codes, x) };
                }
            }
            for ((row, dot), total) in rows.iter().zip(&dots).zip(totals.iter_mut()) {
                let scale = L::multiply(scale, L::broadcast(*row.scales.add(x_block)));
                *total = L::multiply_add(L::floats(*dot), scale, *total);
                if F::HAS_MINS {
                    let sum = L::broadcast(*row.sums.add(x_group));
                    *total = L::subtract_product(chunk.min(group), sum, *total);
                }
            }
        }
    }
}
