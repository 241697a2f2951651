//! An instruction set's micro-kernel and packing, as the plans use them.

use super::view::MatRef;
use crate::isa::Isa;
use crate::precision::{Precision, round_to_bf16};

/// Longest block of k, in units: one panel of A (14 × 768 × 4 bytes = 43 kB) is read from the second-level cache.
const MAX_K_UNITS: usize = 768;

/// What the micro-kernel does with the tile that it has summed up.
#[derive(Clone, Copy)]
pub(super) enum Store {
    Overwrite,
    Add,
    /// Bias of the tile's first column.
    AddTo(*const f32),
}

// SAFETY: the pointer is into a slice that outlives the operation, and is only read.
unsafe impl Sync for Store {}
// SAFETY: as above.
unsafe impl Send for Store {}

/// `(units, a, b, c, c_row_stride, rows, cols, store)`: the tile's first `rows` × `cols` elements from a panel of A
/// `[units][mr]` and a panel of B `[units][nr]`.
pub(super) type Tile = unsafe fn(usize, *const f32, *const f32, *mut f32, usize, usize, usize, Store);

/// `(panel, width, source, lane_stride, k_stride, lanes, kc)`: the panel `[units][width]` of `lanes` ≤ width lanes of kc
/// terms; the other lanes, and the last unit's missing term, become zero.
pub(super) type Pack = unsafe fn(*mut f32, usize, *const f32, usize, usize, usize, usize);

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
    pub tile: Tile,
    pub pack: Pack,
    /// Whether panels of f32 are rounded to bf16 once they are packed, for want of a kernel that multiplies bf16; and the
    /// instruction set that rounds.
    pub rounds: Option<Isa>,
}

impl Kernels {
    /// The kernels of an instruction set; where it does not multiply bf16 natively, operands are rounded and multiplied as
    /// f32: the same numbers, no faster.
    pub fn of(isa: Isa, precision: Precision) -> Kernels {
        let kernels = match (isa, precision) {
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512Bf16, Precision::Bf16) => return super::avx512::BF16,
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512 | Isa::Avx512Bf16, _) => super::avx512::F32,
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, _) => super::avx2::KERNELS,
            _ => super::portable::KERNELS,
        };
        Kernels { rounds: (precision == Precision::Bf16).then_some(isa), ..kernels }
    }

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
        if kc == 0 {
            return;
        }
        let lanes = self.mr.min(a.rows - i * self.mr);
        self.pack(panel, self.mr, a.at(i * self.mr, pc), a.row_stride, a.col_stride, lanes, kc);
    }

    /// Panel `j` of B's columns: its terms `pc..pc + kc` into `panel`, [units, nr].
    pub fn pack_cols(&self, panel: &mut [f32], b: &MatRef<'_>, j: usize, pc: usize, kc: usize) {
        if kc == 0 {
            return;
        }
        let lanes = self.nr.min(b.cols - j * self.nr);
        self.pack(panel, self.nr, b.at(pc, j * self.nr), b.col_stride, b.row_stride, lanes, kc);
    }

    fn pack(
        &self,
        panel: &mut [f32],
        width: usize,
        source: *const f32,
        lane_stride: usize,
        k_stride: usize,
        lanes: usize,
        kc: usize,
    ) {
        let len = self.units(kc) * width;
        assert!(panel.len() >= len, "a panel of {width} lanes: room for {} of {len} units", panel.len());
        // SAFETY: `MatRef` holds every element (row < rows, col < cols); the panel has room.
        unsafe { (self.pack)(panel.as_mut_ptr(), width, source, lane_stride, k_stride, lanes, kc) }
        if let Some(isa) = self.rounds {
            round_to_bf16(isa, &mut panel[..len]);
        }
    }
}
