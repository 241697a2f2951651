//! The interface of a micro-kernel and its packing functions.

use super::view::MatRef;
use crate::isa::Isa;
use crate::precision::round_to_bf16;

/// Longest block of k, in units: a panel of A (14 × 768 × 4 bytes = 43 kB) then stays in the second-level cache.
const MAX_K_UNITS: usize = 768;

/// How the micro-kernel stores the sums of a tile.
#[derive(Clone, Copy)]
pub(crate) enum Store {
    Overwrite,
    Add,
    /// Stores bias + sum; the pointer is to the bias of the tile's first column.
    Bias(*const f32),
}

/// `(units, a, b, c, c_row_stride, rows, cols, store)`: computes the first `rows` × `cols` elements of a tile from a
/// panel of A `[units][mr]` and a panel of B `[units][nr]`.
pub(super) type Tile = unsafe fn(usize, *const f32, *const f32, *mut f32, usize, usize, usize, Store);

/// The part of an operand that is packed into one panel: lane l of term k is at `at + l * lane_stride + k * k_stride`.
#[derive(Clone, Copy)]
pub(super) struct PanelSource {
    pub at: *const f32,
    pub lane_stride: usize,
    pub k_stride: usize,
    /// Number of lanes; the other lanes of the panel become zero.
    pub lanes: usize,
    /// Number of terms of k in the panel.
    pub kc: usize,
}

impl PanelSource {
    /// At most `n` lanes, beginning at `lane`.
    fn starting_at(self, lane: usize, n: usize) -> PanelSource {
        // Lanes that the source lacks are not read, and may be beyond the address space.
        let at = self.at.wrapping_add(lane.wrapping_mul(self.lane_stride));
        PanelSource { at, lanes: self.lanes.saturating_sub(lane).min(n), ..self }
    }

    /// The terms beginning at `k`.
    #[cfg(target_arch = "x86_64")]
    pub fn terms_from(self, k: usize) -> PanelSource {
        PanelSource { at: self.at.wrapping_add(k * self.k_stride), kc: self.kc - k, ..self }
    }
}

/// `(panel, panel_stride, width, source)`: packs `width` lanes of a panel `[units][panel_stride]`. Lanes that the
/// source lacks and the missing term of the last unit become zero.
///
/// Only `width` lanes of a row are written, except if `width` is the whole `panel_stride`: a store may then extend into
/// the next row, which is written afterwards.
pub(super) type Pack = unsafe fn(*mut f32, usize, usize, PanelSource);

/// The packing functions for the possible layouts of an operand.
#[derive(Clone, Copy)]
pub(super) struct Packing {
    /// For lanes that are contiguous: packs the whole width of a panel.
    pub copy: Pack,
    /// For lanes whose terms are contiguous: packs up to `max_lanes` lanes.
    pub transpose: Pack,
    pub max_lanes: usize,
    /// For any layout: packs the whole width of a panel.
    pub gather: Pack,
}

/// The micro-kernel and the packing functions of an instruction set.
///
/// A unit is the four bytes that a panel holds for a lane: one term in f32, or two consecutive terms in bf16.
#[derive(Clone, Copy)]
pub(crate) struct Kernels {
    /// Rows (`mr`) and columns (`nr`) of the tile in registers.
    pub mr: usize,
    pub nr: usize,
    /// Number of terms in a unit.
    pub k_step: usize,
    /// Units of packed B per task. They stay in the second-level cache, which has 1 MB or more on most processors with
    /// AVX-512 and often only 512 kB on others.
    pub b_group_units: usize,
    pub(super) tile: Tile,
    pub(super) packing: Packing,
    /// The instruction set that rounds packed panels to bf16, where no kernel multiplies bf16; `None` if nothing is
    /// rounded.
    pub rounds: Option<Isa>,
}

impl Kernels {
    /// Length of the blocks into which a sum over `k` terms is divided; it depends only on k.
    pub fn k_block(&self, k: usize) -> usize {
        let n_blocks = k.div_ceil(MAX_K_UNITS * self.k_step).max(1);
        k.div_ceil(n_blocks).next_multiple_of(8).max(8)
    }

    /// Number of units that hold `kc` terms.
    pub fn units(&self, kc: usize) -> usize {
        kc.div_ceil(self.k_step)
    }

    /// Packs terms `pc..pc + kc` of panel `i` of A's rows into `panel` [units, mr].
    pub fn pack_rows(&self, panel: &mut [f32], a: &MatRef<'_>, i: usize, pc: usize, kc: usize) {
        if kc > 0 {
            let (at, lanes) = (a.at(i * self.mr, pc), self.mr.min(a.rows - i * self.mr));
            let source = PanelSource { at, lane_stride: a.row_stride, k_stride: a.col_stride, lanes, kc };
            self.pack(panel, self.mr, source);
        }
    }

    /// Packs terms `pc..pc + kc` of panel `j` of B's columns into `panel` [units, nr].
    pub fn pack_cols(&self, panel: &mut [f32], b: &MatRef<'_>, j: usize, pc: usize, kc: usize) {
        if kc > 0 {
            let (at, lanes) = (b.at(pc, j * self.nr), self.nr.min(b.cols - j * self.nr));
            let source = PanelSource { at, lane_stride: b.col_stride, k_stride: b.row_stride, lanes, kc };
            self.pack(panel, self.nr, source);
        }
    }

    /// Computes the first `rows` × `cols` elements of a tile at `c` from panels of `units` units.
    ///
    /// # Safety
    /// These elements of C, in rows `row_stride` apart, exist and are accessed by no one else.
    pub unsafe fn multiply(
        &self,
        units: usize,
        a: &[f32],
        b: &[f32],
        c: *mut f32,
        row_stride: usize,
        rows: usize,
        cols: usize,
        store: Store,
    ) {
        assert!(
            a.len() >= units * self.mr && b.len() >= units * self.nr && rows <= self.mr && cols <= self.nr,
            "a tile [{rows}, {cols}] of {units} units: panels of {} and {}",
            a.len(),
            b.len()
        );
        // SAFETY: the panels are long enough; the caller promises the tile.
        unsafe { (self.tile)(units, a.as_ptr(), b.as_ptr(), c, row_stride, rows, cols, store) }
    }

    fn pack(&self, panel: &mut [f32], width: usize, source: PanelSource) {
        let len = self.units(source.kc) * width;
        assert!(panel.len() >= len, "a panel of {width} lanes: {} of {len} floats", panel.len());
        let (to, Packing { copy, transpose, max_lanes, gather }) = (panel.as_mut_ptr(), self.packing);
        // SAFETY: `MatRef` holds every element (row < rows, col < cols); the panel is long enough.
        unsafe {
            if source.lane_stride == 1 {
                copy(to, width, width, source);
            } else if source.k_stride == 1 {
                for lane in (0..width).step_by(max_lanes) {
                    let n = max_lanes.min(width - lane);
                    transpose(to.add(lane), width, n, source.starting_at(lane, n));
                }
            } else {
                gather(to, width, width, source);
            }
        }
        if let Some(isa) = self.rounds {
            round_to_bf16(isa, &mut panel[..len]);
        }
    }
}
