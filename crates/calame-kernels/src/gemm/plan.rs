//! The two schedules of a product: for few rows and for many rows.

use super::epilogue::{Epilogue, SharedEpilogue};
use super::init::Init;
use super::kernels::{Kernels, Store};
use super::right::Right;
use super::view::{MatMut, MatRef};
use crate::aligned::AlignedVec;
use crate::disjoint_mut::DisjointMut;
use crate::elementwise::add;
use crate::isa::Isa;
use crate::philox;
use crate::pool::{Phases, Pool, Workspace};
use crate::workspace_size::WorkspaceSize;

/// Number of panels of A per task.
const A_GROUP_PANELS: usize = 8;
/// Columns of B that are packed at a time; the packed copy stays in the last-level cache.
const B_SLAB_COLUMNS: usize = 3072;
const _: () =
    assert!(B_SLAB_COLUMNS.is_multiple_of(philox::BLOCK), "a slab begins where a block of random numbers does");
/// Panels of A that are packed at a time, for the same reason.
const A_SLAB_PANELS: usize = 160;
/// Up to this many rows, each task packs its own columns of B: no task uses another's, so that no barrier is needed.
const NARROW_ROWS: usize = 32;

/// Computes a product whose sizes have been checked.
pub(super) fn run(
    pool: &Pool,
    kernels: Kernels,
    a: MatRef<'_>,
    b: Right<'_>,
    c: MatMut<'_>,
    init: Init<'_>,
    epilogue: Epilogue<'_>,
) {
    let mut guard = pool.lock();
    let (workspace, phases) = guard.split();
    let (kc, narrow) = (kernels.k_block(a.cols), is_narrow(a.rows));
    let product = Product { isa: pool.isa(), kernels, kc, a, b, init, c: Out::new(c), epilogue: epilogue.shared() };
    if narrow {
        product.run_narrow(workspace, phases);
    } else {
        product.run_wide(workspace, phases);
    }
}

fn is_narrow(rows: usize) -> bool {
    rows <= NARROW_ROWS
}

/// Numbers of panels of A and of B that are packed at a time in a product of many rows.
fn slabs(kernels: &Kernels, rows: usize, cols: usize) -> (usize, usize) {
    let Kernels { mr, nr, .. } = *kernels;
    (A_SLAB_PANELS.min(rows.div_ceil(mr)), (B_SLAB_COLUMNS / nr).min(cols.div_ceil(nr)))
}

/// The work space that a product [m, k] · [k, n] needs.
pub(super) fn workspace_size(kernels: &Kernels, m: usize, k: usize, n: usize) -> WorkspaceSize {
    let kc = kernels.k_block(k);
    let (a_panel, b_panel) = (kernels.mr * kernels.units(kc), kernels.nr * kernels.units(kc));
    if is_narrow(m) {
        let n_panels = k.max(1).div_ceil(kc).saturating_mul(m.div_ceil(kernels.mr));
        return WorkspaceSize { packed_a: n_panels.saturating_mul(a_panel), packed_b: 0, per_thread: b_panel };
    }
    let (row_slab, col_slab) = slabs(kernels, m, n);
    WorkspaceSize { packed_a: row_slab * a_panel, packed_b: col_slab * b_panel, per_thread: 0 }
}

/// C as tasks share it.
#[derive(Clone, Copy)]
pub(crate) struct Out {
    pub data: DisjointMut<f32>,
    pub row_stride: usize,
    rows: usize,
    pub cols: usize,
}

impl Out {
    pub fn new(c: MatMut<'_>) -> Out {
        Out { data: DisjointMut::new(c.data), row_stride: c.row_stride, rows: c.rows, cols: c.cols }
    }
}

struct Product<'a> {
    isa: Isa,
    kernels: Kernels,
    kc: usize,
    a: MatRef<'a>,
    b: Right<'a>,
    init: Init<'a>,
    c: Out,
    epilogue: SharedEpilogue<'a>,
}

/// A range of panels.
type Panels = std::ops::Range<usize>;

/// Group `i` of `n_panels` panels in groups of `len`; the last group may be shorter.
fn group_of(i: usize, len: usize, n_panels: usize) -> Panels {
    i * len..((i + 1) * len).min(n_panels)
}

impl Product<'_> {
    /// The first term and the number of terms of each block of k; one empty block if k is 0.
    fn k_blocks(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (k, kc) = (self.a.cols, self.kc);
        (0..k.max(1)).step_by(kc).map(move |pc| (pc, kc.min(k - pc)))
    }

    /// Number of panels of B per task: as many as the second-level cache holds, and whole blocks of dropout's random
    /// numbers.
    fn group_len(&self) -> usize {
        let least = self.block_len();
        let panel = self.kernels.nr * self.kernels.units(self.kc);
        (self.kernels.b_group_units / panel / least).max(1) * least
    }

    /// Number of panels of B whose columns are a whole block of random numbers.
    fn block_len(&self) -> usize {
        assert!(philox::BLOCK.is_multiple_of(self.kernels.nr), "panels of {} columns cut blocks", self.kernels.nr);
        philox::BLOCK / self.kernels.nr
    }

    fn workspace_size(&self) -> WorkspaceSize {
        workspace_size(&self.kernels, self.a.rows, self.a.cols, self.c.cols)
    }

    /// The schedule for few rows: A is packed as a whole; a task processes some panels of B over all of k.
    fn run_narrow(&self, workspace: &mut Workspace, mut phases: Phases<'_>) {
        let Kernels { mr, nr, .. } = self.kernels;
        let n_row_panels = self.a.rows.div_ceil(mr);
        let panel = mr * self.kernels.units(self.kc);
        let size = self.workspace_size();
        let packed_a = workspace.packed_a.resize_uninit(size.packed_a);
        for (p, (pc, kc)) in self.k_blocks().enumerate() {
            for i in 0..n_row_panels {
                let at = (p * n_row_panels + i) * panel;
                self.kernels.pack_rows(&mut packed_a[at..at + panel], &self.a, i, pc, kc);
            }
        }
        let packed_a = &*packed_a;
        let (n_col_panels, group) = (self.c.cols.div_ceil(nr), self.block_len());
        phases.run(n_col_panels.div_ceil(group), &|task, scratch: &mut AlignedVec| {
            let packed_b = scratch.resize_uninit(size.per_thread);
            let columns = group_of(task, group, n_col_panels);
            for j in columns.clone() {
                for (p, (pc, kc)) in self.k_blocks().enumerate() {
                    let ready = self.b.panel(&self.kernels, j, pc, kc);
                    let b = ready.unwrap_or_else(|| {
                        self.b.pack(&self.kernels, packed_b, j, pc, kc);
                        packed_b
                    });
                    for i in 0..n_row_panels {
                        let at = (p * n_row_panels + i) * panel;
                        self.tile(kc, &packed_a[at..at + panel], b, i, j, pc);
                    }
                }
            }
            self.apply_epilogue(0..n_row_panels, columns);
        });
    }

    /// The schedule for many rows: for each block of k, slab of columns and slab of rows, all threads pack, then all
    /// multiply.
    fn run_wide(&self, workspace: &mut Workspace, mut phases: Phases<'_>) {
        let Kernels { mr, nr, .. } = self.kernels;
        let (n_row_panels, n_col_panels) = (self.a.rows.div_ceil(mr), self.c.cols.div_ceil(nr));
        let units = self.kernels.units(self.kc);
        let (row_slab, col_slab) = slabs(&self.kernels, self.a.rows, self.c.cols);
        let size = self.workspace_size();
        let packed = Packed {
            a: DisjointMut::new(workspace.packed_a.resize_uninit(size.packed_a)),
            a_panel: mr * units,
            b: DisjointMut::new(workspace.packed_b.resize_uninit(size.packed_b)),
            b_panel: nr * units,
        };
        for (pc, kc) in self.k_blocks() {
            for j0 in (0..n_col_panels).step_by(col_slab) {
                let columns = j0..(j0 + col_slab).min(n_col_panels);
                for i0 in (0..n_row_panels).step_by(row_slab) {
                    let rows = i0..(i0 + row_slab).min(n_row_panels);
                    let fresh_rows = if j0 == 0 || row_slab < n_row_panels { rows.clone() } else { 0..0 };
                    let fresh_columns = if i0 == 0 { columns.clone() } else { 0..0 };
                    self.pack_slabs(&mut phases, &packed, fresh_rows, fresh_columns, pc, kc);
                    self.multiply_slabs(&mut phases, &packed, rows, columns.clone(), pc, kc);
                }
            }
        }
    }

    fn pack_slabs(
        &self,
        phases: &mut Phases<'_>,
        packed: &Packed,
        rows: Panels,
        columns: Panels,
        pc: usize,
        kc: usize,
    ) {
        let n_tasks = columns.len().div_ceil(self.group_len()).max(rows.len().div_ceil(A_GROUP_PANELS));
        // Each task packs the same share of both operands. A thread takes consecutive tasks, and so packs consecutive
        // panels.
        let share = |task: usize, n: usize| task * n / n_tasks..(task + 1) * n / n_tasks;
        phases.run(n_tasks, &|task, _| {
            let n_columns = if self.b.is_ready() { 0 } else { columns.len() };
            for j in share(task, n_columns) {
                // SAFETY: only this task accesses panel j.
                let panel = unsafe { packed.b.part(j * packed.b_panel, (j + 1) * packed.b_panel) };
                self.b.pack(&self.kernels, panel, columns.start + j, pc, kc);
            }
            for i in share(task, rows.len()) {
                // SAFETY: only this task accesses panel i.
                let panel = unsafe { packed.a.part(i * packed.a_panel, (i + 1) * packed.a_panel) };
                self.kernels.pack_rows(panel, &self.a, rows.start + i, pc, kc);
            }
        });
    }

    fn multiply_slabs(
        &self,
        phases: &mut Phases<'_>,
        packed: &Packed,
        rows: Panels,
        columns: Panels,
        pc: usize,
        kc: usize,
    ) {
        let (group, n_row_groups) = (self.group_len(), rows.len().div_ceil(A_GROUP_PANELS));
        let is_last = pc + kc >= self.a.cols;
        phases.run(columns.len().div_ceil(group) * n_row_groups, &|task, _| {
            // Consecutive tasks share their columns of B, so that a thread finds them in its cache.
            let (jg, ig) = (task / n_row_groups, task % n_row_groups);
            let is = group_of(ig, A_GROUP_PANELS, rows.len());
            let js = group_of(jg, group, columns.len());
            for i in is.clone() {
                // SAFETY: packed panels are not written in this phase, and the phase before has ended.
                let a = unsafe { packed.a.read(i * packed.a_panel, (i + 1) * packed.a_panel) };
                for j in js.clone() {
                    let ready = self.b.panel(&self.kernels, columns.start + j, pc, kc);
                    // SAFETY: as above.
                    let b =
                        ready.unwrap_or_else(|| unsafe { packed.b.read(j * packed.b_panel, (j + 1) * packed.b_panel) });
                    self.tile(kc, a, b, rows.start + i, columns.start + j, pc);
                }
            }
            if is_last {
                let at = |panels: Panels, start: usize| panels.start + start..panels.end + start;
                self.apply_epilogue(at(is, rows.start), at(js, columns.start));
            }
        });
    }

    /// Computes tile (i, j) of C from the block of k that begins at `pc`.
    fn tile(&self, kc: usize, a: &[f32], b: &[f32], i: usize, j: usize, pc: usize) {
        let Kernels { mr, nr, tile, .. } = self.kernels;
        let (row, col, units) = (i * mr, j * nr, self.kernels.units(kc));
        let store = match self.init {
            _ if pc > 0 => Store::Add,
            Init::Zero => Store::Overwrite,
            Init::Add => Store::Add,
            Init::Bias(bias) => Store::Bias(bias[col..].as_ptr()),
            Init::AddBias(_) => Store::Add,
        };
        let (rows, cols) = (mr.min(self.c.rows - row), nr.min(self.c.cols - col));
        if let (0, Init::AddBias(bias)) = (pc, self.init) {
            // Not a `Store` of the micro-kernels: with a fourth, the compiler may move their sums out of registers.
            for at in (row..row + rows).map(|row| row * self.c.row_stride + col) {
                // SAFETY: no other task accesses this tile of C.
                add(self.isa, &bias[col..col + cols], unsafe { self.c.data.part(at, at + cols) });
            }
        }
        let c = self.c.data.at(row * self.c.row_stride + col);
        assert!(a.len() >= units * mr && b.len() >= units * nr, "panels of {kc}: A of {}, B of {}", a.len(), b.len());
        // SAFETY: the panels hold [units][mr] and [units][nr]; the tile lies inside C, and no other task writes it.
        unsafe { tile(units, a.as_ptr(), b.as_ptr(), c, self.c.row_stride, rows, cols, store) }
    }

    /// Applies the epilogue to the part of C that the calling task has computed.
    fn apply_epilogue(&self, rows: Panels, columns: Panels) {
        if matches!(self.epilogue, SharedEpilogue::None) {
            return;
        }
        let Kernels { mr, nr, .. } = self.kernels;
        let (from, to) = (columns.start * nr, (columns.end * nr).min(self.c.cols));
        for row in rows.start * mr..(rows.end * mr).min(self.c.rows) {
            let at = row * self.c.row_stride;
            // SAFETY: only this task accesses these elements of C and of the epilogue's y.
            unsafe { self.epilogue.apply(self.isa, self.c.data.part(at + from, at + to), self.c.cols, row, from) };
        }
    }
}

/// Packed slabs of both operands, as consecutive panels.
struct Packed {
    a: DisjointMut<f32>,
    a_panel: usize,
    b: DisjointMut<f32>,
    b_panel: usize,
}
