//! What a product reads: a chunk, and the parts of the rows of x that belong to it.

use crate::packed::activations::{Activations, BLOCK};
use crate::packed::blocks::PANEL_ROWS;
use crate::packed::chunk::UNIT;
use crate::packed::codes::Groups;

/// Codes and scales of a chunk, decoded.
#[derive(Clone, Copy)]
pub(in crate::packed) struct Chunk<'a> {
    /// Codes [unit, row, 4] of four consecutive elements each.
    pub codes: &'a [[u8; UNIT]],
    /// d·scale of each group [group, row].
    pub scales: &'a [[f32; PANEL_ROWS]],
    /// Minima [group, row]; empty if the format has no minima.
    pub mins: &'a [[f32; PANEL_ROWS]],
    /// Index of the chunk's first element in a row.
    pub first: usize,
}

/// A chunk of a panel, and the rows of x that it is multiplied by.
#[derive(Clone, Copy)]
pub(in crate::packed) struct Operands<'a> {
    /// How the elements of the chunk share scales.
    pub groups: Groups,
    pub chunk: Chunk<'a>,
    pub x: &'a Activations<'a>,
    /// The first row of x.
    pub first_row: usize,
}

/// The parts of one row of x that belong to a chunk.
#[derive(Clone, Copy)]
pub(super) struct RowPart {
    pub codes: *const i8,
    pub scales: *const f32,
    pub offsets: *const i32,
    pub sums: *const f32,
}

impl Operands<'_> {
    /// Whether codes exceed 127: the products of two such codes do not fit into 16 bits.
    pub fn is_wide(&self) -> bool {
        self.groups.offset == 128
    }

    /// Without the first `n` rows of x.
    pub fn skip_rows(self, n: usize) -> Self {
        Operands { first_row: self.first_row + n, ..self }
    }

    /// The parts of the row of x with index `i` that belong to the chunk: slices of its elements, blocks and groups.
    #[inline(always)]
    pub(super) fn part(&self, i: usize) -> RowPart {
        let Operands { groups, chunk, x, first_row } = self;
        let row = first_row + i;
        let (n_elements, n_groups) = (4 * chunk.codes.len(), chunk.scales.len());
        let (block, group) = (chunk.first / BLOCK, chunk.first / groups.len);
        RowPart {
            codes: x.codes[row * x.len + chunk.first..][..n_elements].as_ptr(),
            scales: x.scales[row * (x.len / BLOCK) + block..][..n_elements / BLOCK].as_ptr(),
            offsets: x.offsets[row * x.n_groups + group..][..n_groups].as_ptr(),
            sums: x.sums[row * x.n_groups + group..][..n_groups].as_ptr(),
        }
    }
}
