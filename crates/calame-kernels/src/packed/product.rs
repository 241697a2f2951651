//! Products of rows of x with a packed matrix: y [R, OC] = epilogue(init + x [R, C] · Wᵀ).

use std::ops::Range;

use super::activations::{self, Activations};
use super::blocks::{self, CHUNK_LEN, PANEL_ROWS};
use super::chunk::{Decoded, SCRATCH_LEN};
use super::codes::{self, Groups};
use super::dot::{self, Chunk, Operands};
use super::raw::cast;
use super::{PackedMatrix, few, floats, fused};
use crate::aligned::AlignedVec;
use crate::disjoint_mut::DisjointMut;
use crate::gemm::{self, Epilogue, Init, MatMut, MatRef, Out, SharedEpilogue};
use crate::isa::Isa;
use crate::pool::{Phases, Pool, Workspace};
use crate::precision::{Precision, rounded_to_bf16};

/// Number of output columns of a task.
const TASK_COLUMNS: usize = 64;
/// Rows of x in a task of a product with a block format: their codes stay in the second-level cache.
const TASK_ROWS: usize = 128;

/// Computes C = epilogue(init + A·Wᵀ), where A is [m, k], W is [n, k] and C is [m, n]. A's rows must be contiguous.
///
/// An element of C depends only on its row of A, its row of W and the instruction set, not on the other rows.
///
/// # Panics
/// If the sizes do not agree, A's rows are not contiguous, the layout of W is that of another instruction set, or C has
/// gaps between its rows and `epilogue` is not [`Epilogue::None`].
pub fn packed_product(
    pool: &Pool,
    a: MatRef<'_>,
    w: &PackedMatrix,
    c: MatMut<'_>,
    init: Init<'_>,
    epilogue: Epilogue<'_>,
) {
    let shape = w.shape();
    assert!(
        a.cols() == shape.cols() && shape.rows() == c.cols() && a.rows() == c.rows() && a.has_dense_rows(),
        "packed_product: A [{}, {}] times the transpose of W [{}, {}] into C [{}, {}]",
        a.rows(),
        a.cols(),
        shape.rows(),
        shape.cols(),
        c.rows(),
        c.cols()
    );
    assert_eq!(shape.isa, pool.isa(), "packed_product: the layout of W and the instruction set of the pool");
    if let Init::Bias(bias) | Init::AddBias(bias) = init {
        assert_eq!(bias.len(), c.cols(), "packed_product: elements of the bias and columns of C");
    }
    epilogue.check(&c);
    if c.rows() == 0 || c.cols() == 0 {
        return;
    }
    if !shape.is_blocks() && a.rows() > few::MAX_ROWS {
        return gemm::packed(pool, floats::kernels(shape), a, w, c, init, epilogue);
    }
    let mut guard = pool.lock();
    let (workspace, phases) = guard.split();
    let product = Product { isa: pool.isa(), a, w, init, c: Out::new(c), epilogue: epilogue.shared() };
    if shape.is_blocks() { product.of_blocks(workspace, phases) } else { product.of_few(workspace, phases) }
}

struct Product<'a> {
    isa: Isa,
    a: MatRef<'a>,
    w: &'a PackedMatrix,
    init: Init<'a>,
    c: Out,
    epilogue: SharedEpilogue<'a>,
}

impl Product<'_> {
    /// Few rows, and a format without blocks.
    fn of_few(&self, workspace: &mut Workspace, mut phases: Phases<'_>) {
        let (shape, kernels) = (self.w.shape(), floats::kernels(self.w.shape()));
        let (n_rows, nr, k) = (self.a.rows(), kernels.nr, shape.cols);
        let (x, x_stride) = self.operand(workspace, kernels.k_step);
        let x = DisjointMut::new(x);
        let (kc, few) = (kernels.k_block(k), few::kernel(self.isa, shape.format, n_rows));
        let unit_len = if floats::is_direct(shape) { nr } else { nr / 2 };
        let per_task = (TASK_COLUMNS / nr).max(1);
        phases.run(shape.n_panels().div_ceil(per_task), &|task, _: &mut AlignedVec| {
            for j in task * per_task..((task + 1) * per_task).min(shape.n_panels()) {
                let panel = self.w.panel(j);
                for pc in (0..k.max(1)).step_by(kc) {
                    let (first, units) = (pc / kernels.k_step, kernels.units(kc.min(k - pc)));
                    let mut sums = [0.0; few::MAX_ROWS * floats::MAX_PANEL_ROWS];
                    let part = &panel[first * unit_len..(first + units) * unit_len];
                    // SAFETY: x has `n_rows` rows of these units, `part` is [units, nr], and so many sums fit.
                    unsafe { few(units, x.at(first), x_stride, part.as_ptr(), unit_len, sums.as_mut_ptr()) };
                    self.write(0..n_rows, j * nr, nr, &sums, pc == 0);
                }
            }
            let columns = task * per_task * nr..((task + 1) * per_task * nr).min(shape.rows);
            self.apply_epilogue(0..n_rows, columns);
        });
    }

    /// The rows of A as the kernels of a few rows read them, and the distance between them in floats: in place, or
    /// rounded to bf16 (in pairs where a unit has two terms).
    fn operand<'b>(&'b self, workspace: &'b mut Workspace, k_step: usize) -> (&'b mut [f32], usize) {
        let (n_rows, k) = (self.a.rows(), self.a.cols());
        let units = k.div_ceil(k_step);
        let to = workspace.packed_a.resize_uninit(n_rows * units);
        let is_rounded = floats::precision(self.w.shape()) == Precision::Bf16;
        for (row, to) in to.chunks_exact_mut(units.max(1)).enumerate() {
            let x = self.a.row(row);
            match (is_rounded, k_step) {
                (false, _) => to.copy_from_slice(x),
                (true, 1) => to.iter_mut().zip(x).for_each(|(to, &x)| *to = rounded_to_bf16(x)),
                (true, _) => gemm::round_to_pairs(self.isa, x, to),
            }
        }
        (to, units)
    }

    /// A format of blocks, and any number of rows.
    fn of_blocks(&self, workspace: &mut Workspace, mut phases: Phases<'_>) {
        let shape = *self.w.shape();
        let groups = codes::groups(shape.format);
        let x = self.quantized(groups, workspace, &mut phases);
        let per_task = TASK_COLUMNS / PANEL_ROWS;
        let (n_rows, n_column_tasks) = (self.a.rows(), shape.n_panels().div_ceil(per_task));
        phases.run(n_column_tasks * n_rows.div_ceil(TASK_ROWS), &|task, scratch: &mut AlignedVec| {
            let (row_task, column_task) = (task / n_column_tasks, task % n_column_tasks);
            let rows = row_task * TASK_ROWS..((row_task + 1) * TASK_ROWS).min(n_rows);
            let panels = column_task * per_task..((column_task + 1) * per_task).min(shape.n_panels());
            let scratch = scratch.resize_uninit(SCRATCH_LEN + TASK_ROWS * PANEL_ROWS);
            let (decoded, sums) = scratch.split_at_mut(SCRATCH_LEN);
            let sums = &mut sums.as_chunks_mut::<PANEL_ROWS>().0[..rows.len()];
            for j in panels.clone() {
                self.multiply_panel(j, groups, &x, rows.start, decoded, sums);
                self.write(rows.clone(), j * PANEL_ROWS, PANEL_ROWS, sums.as_flattened(), true);
            }
            self.apply_epilogue(rows, panels.start * PANEL_ROWS..(panels.end * PANEL_ROWS).min(shape.rows));
        });
    }

    /// Overwrites the sums of a panel's products with some rows of x.
    fn multiply_panel(
        &self,
        j: usize,
        groups: Groups,
        x: &Activations<'_>,
        first_row: usize,
        scratch: &mut [f32],
        sums: &mut [[f32; PANEL_ROWS]],
    ) {
        let (shape, panel) = (self.w.shape(), self.w.panel(j));
        let operands = fused::PanelOperands { panel: cast(panel), cols: shape.cols, x, first_row };
        if sums.len() <= fused::max_rows(shape.format) && fused::multiply(self.isa, shape.format, &operands, sums) {
            return;
        }
        sums.as_flattened_mut().fill(0.0);
        for i in 0..blocks::n_chunks(shape) {
            let n_elements = blocks::chunk_len(shape, i);
            let mut decoded = Decoded::new(scratch);
            codes::decode(self.isa, shape.format, blocks::chunk(shape, panel, i), n_elements, &mut decoded);
            let n_groups = n_elements / groups.len;
            let chunk = Chunk {
                codes: &decoded.codes[..n_elements / 4],
                scales: &decoded.scales[..n_groups],
                mins: &decoded.mins[..n_groups],
                first: i * CHUNK_LEN,
            };
            dot::add(self.isa, &Operands { groups, chunk, x, first_row }, sums);
        }
    }

    /// Quantizes the rows of A.
    fn quantized<'b>(&self, groups: Groups, workspace: &'b mut Workspace, phases: &mut Phases<'_>) -> Activations<'b> {
        let (n_rows, k) = (self.a.rows(), self.a.cols());
        let lens = activations::lens(k, groups);
        let memory = DisjointMut::new(workspace.packed_a.resize_uninit(n_rows * lens.iter().sum::<usize>()));
        let mut start = 0;
        let starts = lens.map(|len| (start, start += n_rows * len).0);
        // A task quantizes at least the elements that make waking a thread worth it.
        let per_task = (crate::split::TASK_ELEMENTS / 2 / k.max(1)).max(1);
        phases.run(n_rows.div_ceil(per_task), &|task, _| {
            for row in task * per_task..((task + 1) * per_task).min(n_rows) {
                let part = |i: usize| {
                    let at = starts[i] + row * lens[i];
                    // SAFETY: each row has parts of its own.
                    unsafe { memory.part(at, at + lens[i]) }
                };
                activations::quantize_row(self.isa, self.a.row(row), groups, [part(0), part(1), part(2), part(3)]);
            }
        });
        // SAFETY: the rows have been written, and the work space is borrowed as long as the result.
        let part = |i: usize| unsafe { memory.read(starts[i], starts[i] + n_rows * lens[i]) };
        let n_groups = k / groups.len;
        Activations { codes: cast(part(0)), scales: part(1), offsets: cast(part(2)), sums: part(3), len: k, n_groups }
    }

    /// Writes sums [rows, width] of a task's columns from `column` on: first with the initial value, then added.
    fn write(&self, rows: Range<usize>, column: usize, width: usize, sums: &[f32], is_first: bool) {
        let n = width.min(self.c.cols - column);
        for (row, sums) in rows.zip(sums.chunks_exact(width)) {
            let at = row * self.c.row_stride + column;
            // SAFETY: only this task accesses these rows and columns of C.
            let c = unsafe { self.c.data.part(at, at + n) };
            let pairs = c.iter_mut().zip(sums);
            match self.init {
                Init::Add => pairs.for_each(|(c, sum)| *c += sum),
                _ if !is_first => pairs.for_each(|(c, sum)| *c += sum),
                Init::Zero => pairs.for_each(|(c, sum)| *c = *sum),
                Init::Bias(bias) => pairs.zip(&bias[column..]).for_each(|((c, sum), bias)| *c = bias + sum),
                Init::AddBias(bias) => pairs.zip(&bias[column..]).for_each(|((c, sum), bias)| *c = *c + bias + sum),
            }
        }
    }

    fn apply_epilogue(&self, rows: Range<usize>, columns: Range<usize>) {
        if matches!(self.epilogue, SharedEpilogue::None) {
            return;
        }
        for row in rows {
            let at = row * self.c.row_stride;
            // SAFETY: only this task accesses these elements of C and of the epilogue's y.
            unsafe {
                let c = self.c.data.part(at + columns.start, at + columns.end);
                self.epilogue.apply(self.isa, c, self.c.cols, row, columns.start);
            }
        }
    }
}
