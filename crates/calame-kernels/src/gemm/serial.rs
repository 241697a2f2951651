//! Small products inside one task, by the same micro-kernels: what attention is made of.

use super::{Kernels, MatRef, Store};
use crate::isa::Isa;

/// Products of packed operands on the calling thread.
#[derive(Clone, Copy)]
pub(crate) struct Serial {
    kernels: Kernels,
}

/// An operand B packed for all of its k: panels `[k][nr]`.
#[derive(Clone, Copy)]
pub(crate) struct PackedB<'a> {
    panels: &'a [f32],
    k: usize,
}

/// An operand A packed for all of its k: panels `[k][mr]`.
#[derive(Clone, Copy)]
pub(crate) struct PackedA<'a> {
    panels: &'a [f32],
    rows: usize,
    k: usize,
}

impl Serial {
    pub fn new(isa: Isa) -> Serial {
        Serial { kernels: Kernels::of(isa) }
    }

    /// Elements that [`Serial::pack_a`] needs for a matrix [rows, k].
    pub fn packed_a_len(self, rows: usize, k: usize) -> usize {
        rows.next_multiple_of(self.kernels.mr) * k
    }

    /// Elements that [`Serial::pack_b`] needs for a matrix [k, cols].
    pub fn packed_b_len(self, k: usize, cols: usize) -> usize {
        cols.next_multiple_of(self.kernels.nr) * k
    }

    pub fn pack_a<'a>(self, room: &'a mut [f32], a: MatRef<'_>) -> PackedA<'a> {
        let Kernels { mr, pack, .. } = self.kernels;
        let room = &mut room[..self.packed_a_len(a.rows, a.cols)];
        for (i, panel) in room.chunks_exact_mut(mr * a.cols).enumerate() {
            let lanes = mr.min(a.rows - i * mr);
            // SAFETY: `MatRef` holds every element, the panel has room for [k][mr].
            unsafe {
                pack(panel.as_mut_ptr(), mr, a.at(i * mr, 0), a.row_stride, a.col_stride, lanes, a.cols);
            }
        }
        PackedA { panels: room, rows: a.rows, k: a.cols }
    }

    pub fn pack_b<'a>(self, room: &'a mut [f32], b: MatRef<'_>) -> PackedB<'a> {
        let Kernels { nr, pack, .. } = self.kernels;
        let room = &mut room[..self.packed_b_len(b.rows, b.cols)];
        for (j, panel) in room.chunks_exact_mut(nr * b.rows).enumerate() {
            let lanes = nr.min(b.cols - j * nr);
            // SAFETY: as in `pack_a`.
            unsafe {
                pack(panel.as_mut_ptr(), nr, b.at(0, j * nr), b.col_stride, b.row_stride, lanes, b.rows);
            }
        }
        PackedB { panels: room, k: b.rows }
    }

    /// C = A·B (or C += A·B where `add`), for A's k: the first A.k rows and the first `cols` columns of B.
    ///
    /// # Safety
    /// C is A.rows × `cols` elements, rows `row_stride` apart, that nobody else touches meanwhile.
    pub unsafe fn multiply(
        self,
        a: PackedA<'_>,
        b: PackedB<'_>,
        cols: usize,
        c: *mut f32,
        row_stride: usize,
        add: bool,
    ) {
        let Kernels { mr, nr, tile, .. } = self.kernels;
        assert!(a.k <= b.k && cols.next_multiple_of(nr) * b.k <= b.panels.len(), "Serial::multiply: sizes");
        let store = if add { Store::Add } else { Store::Overwrite };
        for (i, a_panel) in a.panels.chunks_exact(mr * a.k).enumerate() {
            let rows = mr.min(a.rows - i * mr);
            for (j, b_panel) in b.panels.chunks_exact(nr * b.k).enumerate().take(cols.div_ceil(nr)) {
                let width = nr.min(cols - j * nr);
                // SAFETY: the tile lies inside the C that the caller promised; panels hold at least A.k terms.
                unsafe {
                    let c = c.add(i * mr * row_stride + j * nr);
                    tile(a.k, a_panel.as_ptr(), b_panel.as_ptr(), c, row_stride, rows, width, store);
                }
            }
        }
    }
}
