//! Integer products in plain Rust.

use super::operands::{Operands, RowPart};
use crate::packed::blocks::PANEL_ROWS;

/// As [`super::add`].
///
/// # Safety
/// The chunk has the groups of its units.
pub(super) unsafe fn add(operands: &Operands<'_>, sums: &mut [[f32; PANEL_ROWS]]) {
    let Operands { groups, chunk, .. } = operands;
    let units_per_group = groups.len / 4;
    for (row, sums) in sums.iter_mut().enumerate() {
        let RowPart { codes, scales, offsets, sums: row_sums } = operands.part(row);
        for (group, units) in chunk.codes.chunks_exact(units_per_group).enumerate() {
            // SAFETY: the row holds the elements and groups of the chunk.
            let (x, d, offset, sum) = unsafe {
                (
                    std::slice::from_raw_parts(codes.add(group * groups.len), groups.len),
                    *scales.add(group * groups.len / 32),
                    *offsets.add(group),
                    *row_sums.add(group),
                )
            };
            for lane in 0..PANEL_ROWS {
                let mut dot = offset;
                for (unit, x) in units.iter().zip(x.as_chunks::<4>().0) {
                    for (code, x) in unit[4 * lane..4 * lane + 4].iter().zip(x) {
                        dot += i32::from(*code) * i32::from(*x);
                    }
                }
                sums[lane] += dot as f32 * (chunk.scales[group][lane] * d);
                if groups.has_mins {
                    sums[lane] -= chunk.mins[group][lane] * sum;
                }
            }
        }
    }
}
