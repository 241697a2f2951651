//! Matrix products: C = start + A·B in f32, the one place where they happen.
//!
//! The plan is Goto's (K. Goto and R. van de Geijn, "Anatomy of high-performance matrix multiplication", 2008): operands
//! are copied ("packed") into panels that the innermost kernel reads front to back, and that kernel keeps one tile of C in
//! registers. A panel of B with the columns it needs stays in the second-level cache while panels of A pass by.
//!
//! **Order of sums.** k is cut into blocks by [`k_block`], which depends on k alone. An element of C is the start value
//! plus, block after block, the block's sum, which runs over k in order with one accumulator. So an element's value
//! depends on neither the number of rows and columns around it, nor the threads, nor which of the two schedules below ran.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
pub(crate) mod serial;
mod view;

pub use view::{MatMut, MatRef};

use crate::aligned::AlignedVec;
use crate::isa::Isa;
use crate::pool::{Phases, Pool, Shards, Workspace};

/// Longest block of k: one panel of A (14 × 768 × 4 = 43 kB) is read from the second-level cache while it is used.
const MAX_K_BLOCK: usize = 768;
/// Floats of packed B that one task works on: half of a second-level cache of 1 MiB.
const B_GROUP_FLOATS: usize = 100_000;
/// Panels of A in one task.
const A_GROUP_PANELS: usize = 8;
/// Columns of B packed at a time, so that the packed copy stays in the last-level cache.
const B_SLAB_COLUMNS: usize = 3072;
/// Up to this many rows, each task packs its own columns of B: nothing to share, no phase to wait for.
const NARROW_ROWS: usize = 32;

/// What an element of C starts from before the products are added.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// C is overwritten.
    Zero,
    /// The products are added to what C holds.
    Add,
    /// Each row starts from this one, of as many elements as C has columns.
    Bias(&'a [f32]),
}

/// What the micro-kernel does with the tile that it has summed up.
#[derive(Clone, Copy)]
enum Store {
    Overwrite,
    Add,
    /// Bias of the tile's first column.
    AddTo(*const f32),
}

// SAFETY: the pointer is into a slice that outlives the operation, and is only read.
unsafe impl Sync for Store {}
// SAFETY: as above.
unsafe impl Send for Store {}

/// One instruction set's micro-kernel and packing.
#[derive(Clone, Copy)]
struct Kernels {
    /// Rows and columns of the tile in registers.
    mr: usize,
    nr: usize,
    /// `(kc, a, b, c, c_row_stride, rows, cols, store)`: the tile's first `rows` × `cols` elements from a panel of A
    /// `[kc][mr]` and a panel of B `[kc][nr]`.
    tile: unsafe fn(usize, *const f32, *const f32, *mut f32, usize, usize, usize, Store),
    /// `(panel, width, source, lane_stride, k_stride, lanes, kc)`: the panel `[kc][width]` of `lanes` ≤ width lanes; the
    /// others become zero.
    pack: unsafe fn(*mut f32, usize, *const f32, usize, usize, usize, usize),
}

impl Kernels {
    fn of(isa: Isa) -> Kernels {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::KERNELS,
            _ => portable::KERNELS,
        }
    }
}

/// Length of the blocks that a sum over `k` terms is cut into: a function of k alone.
fn k_block(k: usize) -> usize {
    let n_blocks = k.div_ceil(MAX_K_BLOCK).max(1);
    k.div_ceil(n_blocks).next_multiple_of(8).max(8)
}

/// C = start + A·B. A is [m, k], B is [k, n], C is [m, n].
///
/// # Panics
/// If the sizes do not agree.
pub fn gemm(pool: &Pool, a: MatRef<'_>, b: MatRef<'_>, c: MatMut<'_>, start: Start<'_>) {
    assert!(
        a.cols == b.rows && a.rows == c.rows && b.cols == c.cols,
        "gemm: A [{}, {}] times B [{}, {}] into C [{}, {}]",
        a.rows,
        a.cols,
        b.rows,
        b.cols,
        c.rows,
        c.cols
    );
    if let Start::Bias(bias) = start {
        assert_eq!(bias.len(), c.cols, "gemm: elements of the bias and columns of C");
    }
    if c.rows == 0 || c.cols == 0 {
        return;
    }
    if a.cols == 0 {
        return fill_start(c, start);
    }
    let mut turn = pool.turn();
    let (workspace, phases) = turn.split();
    let product = Product { kernels: Kernels::of(pool.isa()), kc: k_block(a.cols), a, b, start, c: Out::new(c) };
    if a.rows <= NARROW_ROWS {
        product.run_narrow(workspace, phases);
    } else {
        product.run_wide(workspace, phases);
    }
}

/// The empty sum.
fn fill_start(c: MatMut<'_>, start: Start<'_>) {
    for r in 0..c.rows {
        let row = &mut c.data[r * c.row_stride..r * c.row_stride + c.cols];
        match start {
            Start::Zero => row.fill(0.0),
            Start::Add => {}
            Start::Bias(bias) => row.copy_from_slice(bias),
        }
    }
}

/// C as tasks share it.
#[derive(Clone, Copy)]
struct Out {
    data: Shards<f32>,
    row_stride: usize,
    rows: usize,
    cols: usize,
}

impl Out {
    fn new(c: MatMut<'_>) -> Out {
        Out { data: Shards::new(c.data), row_stride: c.row_stride, rows: c.rows, cols: c.cols }
    }
}

struct Product<'a> {
    kernels: Kernels,
    kc: usize,
    a: MatRef<'a>,
    b: MatRef<'a>,
    start: Start<'a>,
    c: Out,
}

impl Product<'_> {
    fn k_blocks(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (k, kc) = (self.a.cols, self.kc);
        (0..k).step_by(kc).map(move |pc| (pc, kc.min(k - pc)))
    }

    /// Few rows: A is packed whole; a task takes one panel of B through all of k.
    fn run_narrow(&self, workspace: &mut Workspace, mut phases: Phases<'_>) {
        let Kernels { mr, nr, .. } = self.kernels;
        let n_row_panels = self.a.rows.div_ceil(mr);
        let panel = mr * self.kc;
        let packed_a = workspace.packed_a.first(self.k_blocks().count() * n_row_panels * panel);
        for (p, (pc, kc)) in self.k_blocks().enumerate() {
            for i in 0..n_row_panels {
                let at = (p * n_row_panels + i) * panel;
                self.pack_a(&mut packed_a[at..at + panel], i, pc, kc);
            }
        }
        let packed_a = &*packed_a;
        phases.run(self.b.cols.div_ceil(nr), &|j, scratch: &mut AlignedVec| {
            let packed_b = scratch.first(nr * self.kc);
            for (p, (pc, kc)) in self.k_blocks().enumerate() {
                self.pack_b(packed_b, j, pc, kc);
                for i in 0..n_row_panels {
                    let at = (p * n_row_panels + i) * panel;
                    self.tile(kc, &packed_a[at..at + panel], packed_b, i, j, pc);
                }
            }
        });
    }

    /// Many rows: for each block of k and slab of columns, all threads pack, then all multiply.
    fn run_wide(&self, workspace: &mut Workspace, mut phases: Phases<'_>) {
        let Kernels { mr, nr, .. } = self.kernels;
        let n_row_panels = self.a.rows.div_ceil(mr);
        let n_row_groups = n_row_panels.div_ceil(A_GROUP_PANELS);
        let slab_panels = B_SLAB_COLUMNS / nr;
        let n_col_panels = self.b.cols.div_ceil(nr);
        let (a_panel, b_panel) = (mr * self.kc, nr * self.kc);
        let group = (B_GROUP_FLOATS / b_panel).max(1);
        let a_store = Shards::new(workspace.packed_a.first(n_row_panels * a_panel));
        let b_store = Shards::new(workspace.packed_b.first(slab_panels.min(n_col_panels) * b_panel));
        for (pc, kc) in self.k_blocks() {
            for j0 in (0..n_col_panels).step_by(slab_panels) {
                let n_slab = slab_panels.min(n_col_panels - j0);
                let n_pack_b = n_slab.div_ceil(group);
                let n_pack_a = if j0 == 0 { n_row_groups } else { 0 };
                phases.run(n_pack_b + n_pack_a, &|task, _| {
                    if task < n_pack_b {
                        for j in task * group..((task + 1) * group).min(n_slab) {
                            // SAFETY: panel j is this task's alone.
                            let panel = unsafe { b_store.part(j * b_panel, (j + 1) * b_panel) };
                            self.pack_b(panel, j0 + j, pc, kc);
                        }
                    } else {
                        let g = task - n_pack_b;
                        for i in g * A_GROUP_PANELS..((g + 1) * A_GROUP_PANELS).min(n_row_panels) {
                            // SAFETY: panel i is this task's alone.
                            let panel = unsafe { a_store.part(i * a_panel, (i + 1) * a_panel) };
                            self.pack_a(panel, i, pc, kc);
                        }
                    }
                });
                phases.run(n_slab.div_ceil(group) * n_row_groups, &|task, _| {
                    // Neighbouring tasks share their columns of B, so that a thread finds them in its cache.
                    let (jg, ig) = (task / n_row_groups, task % n_row_groups);
                    for i in ig * A_GROUP_PANELS..((ig + 1) * A_GROUP_PANELS).min(n_row_panels) {
                        // SAFETY: nobody writes packed panels in this phase; the phase before has ended.
                        let a = unsafe { a_store.read(i * a_panel, (i + 1) * a_panel) };
                        for j in jg * group..((jg + 1) * group).min(n_slab) {
                            // SAFETY: as above.
                            let b = unsafe { b_store.read(j * b_panel, (j + 1) * b_panel) };
                            self.tile(kc, a, b, i, j0 + j, pc);
                        }
                    }
                });
            }
        }
    }

    fn pack_a(&self, panel: &mut [f32], i: usize, pc: usize, kc: usize) {
        let Kernels { mr, pack, .. } = self.kernels;
        let a = &self.a;
        let lanes = mr.min(a.rows - i * mr);
        let source = a.at(i * mr, pc);
        assert!(panel.len() >= mr * kc, "a panel of A: room for {} of {mr} × {kc}", panel.len());
        // SAFETY: `MatRef` holds every element (row < rows, col < cols); the panel has room for [kc][mr].
        unsafe { pack(panel.as_mut_ptr(), mr, source, a.row_stride, a.col_stride, lanes, kc) }
    }

    fn pack_b(&self, panel: &mut [f32], j: usize, pc: usize, kc: usize) {
        let Kernels { nr, pack, .. } = self.kernels;
        let b = &self.b;
        let lanes = nr.min(b.cols - j * nr);
        let source = b.at(pc, j * nr);
        assert!(panel.len() >= nr * kc, "a panel of B: room for {} of {nr} × {kc}", panel.len());
        // SAFETY: as in `pack_a`.
        unsafe { pack(panel.as_mut_ptr(), nr, source, b.col_stride, b.row_stride, lanes, kc) }
    }

    /// Tile (i, j) of C from one block of k that starts at `pc`.
    fn tile(&self, kc: usize, a: &[f32], b: &[f32], i: usize, j: usize, pc: usize) {
        let Kernels { mr, nr, tile, .. } = self.kernels;
        let (row, col) = (i * mr, j * nr);
        let store = match self.start {
            _ if pc > 0 => Store::Add,
            Start::Zero => Store::Overwrite,
            Start::Add => Store::Add,
            Start::Bias(bias) => Store::AddTo(bias[col..].as_ptr()),
        };
        let (rows, cols) = (mr.min(self.c.rows - row), nr.min(self.c.cols - col));
        let c = self.c.data.at(row * self.c.row_stride + col);
        assert!(a.len() >= kc * mr && b.len() >= kc * nr, "panels of {kc}: A of {}, B of {}", a.len(), b.len());
        // SAFETY: the panels hold [kc][mr] and [kc][nr]; the tile lies inside C, and no other task writes it.
        unsafe { tile(kc, a.as_ptr(), b.as_ptr(), c, self.c.row_stride, rows, cols, store) }
    }
}
