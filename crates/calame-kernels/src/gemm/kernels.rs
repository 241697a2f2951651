//! An instruction set's micro-kernel and packing, as the plans use them.

use super::view::MatRef;
use crate::isa::Isa;
use crate::precision::round_to_bf16;

/// Longest block of k, in units: one panel of A (14 × 768 × 4 bytes = 43 kB) is read from the second-level cache.
const MAX_K_UNITS: usize = 768;

/// What the micro-kernel does with the tile that it has summed up.
#[derive(Clone, Copy)]
pub(super) enum Store {
    Overwrite,
    Add,
    /// Adds it to the bias, of which this is the tile's first column.
    Bias(*const f32),
    /// Adds it to C plus the bias.
    AddBias(*const f32),
}

/// `(units, a, b, c, c_row_stride, rows, cols, store)`: the tile's first `rows` × `cols` elements from a panel of A
/// `[units][mr]` and a panel of B `[units][nr]`.
pub(super) type Tile = unsafe fn(usize, *const f32, *const f32, *mut f32, usize, usize, usize, Store);

/// The part of an operand that goes into one panel: lane l of term k stands at `at + l * lane_stride + k * k_stride`.
#[derive(Clone, Copy)]
pub(super) struct PanelSource {
    pub at: *const f32,
    pub lane_stride: usize,
    pub k_stride: usize,
    /// Lanes that there are; the panel's others become zero.
    pub lanes: usize,
    /// Terms.
    pub kc: usize,
}

impl PanelSource {
    /// The lanes from `lane` on, at most `n` of them.
    fn starting_at(self, lane: usize, n: usize) -> PanelSource {
        let at = self.at.wrapping_add(lane * self.lane_stride);
        PanelSource { at, lanes: self.lanes.saturating_sub(lane).min(n), ..self }
    }

    /// The terms from `k` on.
    #[cfg(target_arch = "x86_64")]
    pub fn terms_from(self, k: usize) -> PanelSource {
        PanelSource { at: self.at.wrapping_add(k * self.k_stride), kc: self.kc - k, ..self }
    }
}

/// `(panel, panel_stride, width, source)`: `width` lanes of a panel `[units][panel_stride]`, those that the source lacks and
/// the last unit's missing term being zero.
///
/// Nothing beyond `width` lanes of a row is touched, but where `width` is the whole `panel_stride`: a store may run on into
/// the next row then, which is written after it.
pub(super) type Pack = unsafe fn(*mut f32, usize, usize, PanelSource);

/// The ways into a panel.
#[derive(Clone, Copy)]
pub(super) struct Packing {
    /// Lanes stand side by side: the whole width of a panel.
    pub copy: Pack,
    /// A lane's terms stand side by side: up to `max_lanes` lanes.
    pub transpose: Pack,
    pub max_lanes: usize,
    /// Neither: the whole width.
    pub gather: Pack,
}

/// One instruction set's micro-kernel and packing.
///
/// What a panel holds for one lane in four bytes is a unit: one term in f32, or two neighbouring terms in bf16.
#[derive(Clone, Copy)]
pub(super) struct Kernels {
    /// Rows and columns of the tile in registers.
    pub mr: usize,
    pub nr: usize,
    /// Terms in a unit.
    pub k_step: usize,
    /// Units of packed B that one task works on: they stay in the second-level cache, which mostly has 1 MB and more beside
    /// AVX-512 and often no more than 512 kB elsewhere.
    pub b_group_units: usize,
    pub tile: Tile,
    pub packing: Packing,
    /// Whether panels of f32 are rounded to bf16 once they are packed, for want of a kernel that multiplies bf16; and the
    /// instruction set that rounds.
    pub rounds: Option<Isa>,
}

impl Kernels {
    /// Length of the blocks that a sum over `k` terms is cut into: a function of k alone.
    pub fn k_block(&self, k: usize) -> usize {
        let n_blocks = k.div_ceil(MAX_K_UNITS * self.k_step).max(1);
        k.div_ceil(n_blocks).next_multiple_of(8).max(8)
    }

    /// Units that hold `kc` terms.
    pub fn units(&self, kc: usize) -> usize {
        kc.div_ceil(self.k_step)
    }

    /// Panel `i` of A's rows: its terms `pc..pc + kc` into `panel`, [units, mr].
    pub fn pack_rows(&self, panel: &mut [f32], a: &MatRef<'_>, i: usize, pc: usize, kc: usize) {
        if kc > 0 {
            let (at, lanes) = (a.at(i * self.mr, pc), self.mr.min(a.rows - i * self.mr));
            let source = PanelSource { at, lane_stride: a.row_stride, k_stride: a.col_stride, lanes, kc };
            self.pack(panel, self.mr, source);
        }
    }

    /// Panel `j` of B's columns: its terms `pc..pc + kc` into `panel`, [units, nr].
    pub fn pack_cols(&self, panel: &mut [f32], b: &MatRef<'_>, j: usize, pc: usize, kc: usize) {
        if kc > 0 {
            let (at, lanes) = (b.at(pc, j * self.nr), self.nr.min(b.cols - j * self.nr));
            let source = PanelSource { at, lane_stride: b.col_stride, k_stride: b.row_stride, lanes, kc };
            self.pack(panel, self.nr, source);
        }
    }

    fn pack(&self, panel: &mut [f32], width: usize, source: PanelSource) {
        let len = self.units(source.kc) * width;
        assert!(panel.len() >= len, "a panel of {width} lanes: space for {} of {len} units", panel.len());
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
