//! A chunk of a panel as the products read it: unsigned codes and scales of sixteen rows.

use super::blocks::{CHUNK_LEN, PANEL_ROWS};

/// Bytes of the codes of four consecutive elements of all rows.
pub(super) const UNIT: usize = 4 * PANEL_ROWS;
/// Most units of a chunk.
pub(super) const MAX_UNITS: usize = CHUNK_LEN / 4;
/// Most groups of a chunk.
const MAX_GROUPS: usize = CHUNK_LEN / 16;
/// Length of the work space of [`Decoded`] in floats.
pub(super) const SCRATCH_LEN: usize = MAX_UNITS * UNIT / 4 + 2 * MAX_GROUPS * PANEL_ROWS;

/// Codes [unit, row, 4], scales [group, row] and minima [group, row] of a chunk.
pub(super) struct Decoded<'a> {
    pub codes: &'a mut [[u8; UNIT]],
    pub scales: &'a mut [[f32; PANEL_ROWS]],
    pub mins: &'a mut [[f32; PANEL_ROWS]],
}

impl<'a> Decoded<'a> {
    /// In a work space of [`SCRATCH_LEN`] floats.
    pub fn new(scratch: &'a mut [f32]) -> Decoded<'a> {
        let (codes, rest) = scratch.split_at_mut(MAX_UNITS * UNIT / 4);
        let (scales, mins) = rest.split_at_mut(MAX_GROUPS * PANEL_ROWS);
        Decoded {
            codes: super::raw::cast_mut::<u8>(codes).as_chunks_mut().0,
            scales: scales.as_chunks_mut().0,
            mins: mins[..MAX_GROUPS * PANEL_ROWS].as_chunks_mut().0,
        }
    }
}
