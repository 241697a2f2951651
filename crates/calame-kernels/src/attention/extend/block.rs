//! A block of rows of one sequence, and one head.

use std::ops::Range;

use crate::aligned::AlignedVec;
use crate::attention::pages::KvPages;
use crate::disjoint_mut::DisjointMut;
use crate::formats::NumberFormat;
use crate::gemm::{Kernels, MatRef, Store};
use crate::isa::{Isa, multiversion};
use crate::math::{exp, exp_and_sum, max_of};
use crate::packed::few;

/// Positions whose weights are computed together.
pub(super) const SEGMENT: usize = 256;
/// Panels of rows in a block.
const BLOCK_PANELS: usize = 4;

/// The arguments of [`super::attention_extend`], which has checked their sizes.
pub(super) struct Extend<'a> {
    pub isa: Isa,
    pub kernels: Kernels,
    pub n_head: usize,
    pub head_size: usize,
    pub scale: f32,
    pub qkv: &'a [f32],
    pub sequences: &'a [u32],
    pub positions: &'a [u32],
    pub pages: KvPages<'a>,
    pub keys: &'a [f32],
    pub values: &'a [f32],
}

/// The work space of a task.
struct Scratch<'a> {
    /// Packed keys or values of a page.
    page: &'a mut [f32],
    /// The queries of the run, packed as panels of rows.
    queries: &'a mut [f32],
    /// Packed weights of a panel of rows.
    weights: &'a mut [f32],
    /// Scores, then weights: [rows, SEGMENT].
    scores: &'a mut [f32],
    /// Sums of a panel of a few rows, [rows, nr].
    sums: &'a mut [f32],
    /// Partial results of the segment, [rows, partial_len].
    partials: &'a mut [f32],
    /// Partial results of all segments so far.
    merged: &'a mut [f32],
}

impl<'a> Extend<'a> {
    /// Rows of a block.
    pub fn block_rows(&self) -> usize {
        BLOCK_PANELS * self.kernels.mr
    }

    /// Segments that a row sees.
    pub fn n_segments(&self, row: usize) -> usize {
        (self.positions[row] as usize + 1).div_ceil(SEGMENT)
    }

    /// Length of a row's partial result: the largest score, the sum of exponentials, and the sum of values, whose length
    /// is rounded up to whole panels.
    pub fn partial_len(&self) -> usize {
        2 + self.head_size.next_multiple_of(self.kernels.nr)
    }

    /// Divides rows into runs of one sequence, each at most a block.
    pub fn runs(&self, rows: Range<usize>) -> impl Iterator<Item = Range<usize>> + use<'_, 'a> {
        let mut rest = rows;
        std::iter::from_fn(move || {
            let first = rest.start;
            let sequence = *self.sequences[rest.clone()].first()?;
            let n = self.sequences[rest.clone()].iter().take_while(|&&other| other == sequence).count();
            rest.start += n.min(self.block_rows());
            Some(first..rest.start)
        })
    }

    /// Positions that a run sees: those of its last one.
    fn n_keys(&self, run: &Range<usize>) -> usize {
        self.positions[run.clone()].iter().max().map_or(0, |&t| t as usize + 1)
    }

    /// Computes the results of a run, over all segments.
    ///
    /// # Safety
    /// Only the caller accesses the rows and columns of y that belong to the run and the head.
    pub unsafe fn attend(&self, run: Range<usize>, head: usize, memory: &mut AlignedVec, y: &DisjointMut<f32>) {
        let len = self.partial_len();
        let mut scratch = self.scratch(run.len(), memory);
        for segment in 0..self.n_keys(&run).div_ceil(SEGMENT) {
            self.segment(&run, head, segment, &mut scratch);
            let partials = scratch.partials.chunks_exact(len).zip(scratch.merged.chunks_exact_mut(len));
            for (row, (partial, merged)) in run.clone().zip(partials) {
                if segment < self.n_segments(row) {
                    self.merge_segment(segment, partial, merged);
                }
            }
        }
        for (row, merged) in run.zip(scratch.merged.chunks_exact(len)) {
            // SAFETY: promised by the caller.
            unsafe { self.write(row, head, merged, y) };
        }
    }

    /// Computes one segment of a run and passes each row's partial result to `f`.
    pub fn for_segment(
        &self,
        run: Range<usize>,
        head: usize,
        segment: usize,
        memory: &mut AlignedVec,
        mut f: impl FnMut(usize, &[f32]),
    ) {
        if segment * SEGMENT >= self.n_keys(&run) {
            return;
        }
        let mut scratch = self.scratch(run.len(), memory);
        self.segment(&run, head, segment, &mut scratch);
        let partials = run.zip(scratch.partials.chunks_exact(self.partial_len()));
        partials.filter(|(row, _)| segment < self.n_segments(*row)).for_each(|(row, partial)| f(row, partial));
    }

    /// Merges the segments of a row, in order.
    ///
    /// # Safety
    /// Only the caller accesses the row and columns of y that belong to the head.
    pub unsafe fn merge<'b>(
        &self,
        row: usize,
        head: usize,
        segments: impl Iterator<Item = &'b [f32]>,
        memory: &mut AlignedVec,
        y: &DisjointMut<f32>,
    ) {
        let merged = memory.resize_uninit(self.partial_len());
        segments.enumerate().for_each(|(i, partial)| self.merge_segment(i, partial, merged));
        // SAFETY: promised by the caller.
        unsafe { self.write(row, head, merged, y) };
    }

    /// Adds the partial result of a segment to that of the segments before it.
    fn merge_segment(&self, segment: usize, partial: &[f32], merged: &mut [f32]) {
        match segment {
            0 => merged.copy_from_slice(partial),
            _ => add_segment(self.isa, self.scale, partial, merged),
        }
    }

    /// Writes a row's result.
    ///
    /// # Safety
    /// Only the caller accesses the row and columns of y that belong to the head.
    unsafe fn write(&self, row: usize, head: usize, merged: &[f32], y: &DisjointMut<f32>) {
        let at = (row * self.n_head + head) * self.head_size;
        // SAFETY: promised by the caller.
        let y = unsafe { y.part(at, at + self.head_size) };
        let inverse = 1.0 / merged[1];
        y.iter_mut().zip(&merged[2..]).for_each(|(y, sum)| *y = sum * inverse);
    }

    fn scratch<'b>(&self, n_rows: usize, memory: &'b mut AlignedVec) -> Scratch<'b> {
        let Kernels { mr, nr, .. } = self.kernels;
        let (hs, page_len) = (self.head_size, self.pages.page_len);
        let page = (hs * page_len.next_multiple_of(nr)).max(page_len * hs.next_multiple_of(nr));
        let queries = n_rows.next_multiple_of(mr) * hs;
        let partials = n_rows * self.partial_len();
        let lens = [page, queries, page_len * mr, n_rows * SEGMENT, few::MAX_ROWS * nr, partials, partials];
        let mut rest = memory.resize_uninit(lens.iter().sum());
        let [page, queries, weights, scores, sums, partials, merged] = lens.map(|len| {
            let (part, others) = std::mem::take(&mut rest).split_at_mut(len);
            rest = others;
            part
        });
        Scratch { page, queries, weights, scores, sums, partials, merged }
    }

    /// The pages of a segment, of those with positions below `n_keys`: the first position of each, and the number of
    /// positions.
    fn pages_of(&self, segment: usize, n_keys: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (page_len, start) = (self.pages.page_len, segment * SEGMENT);
        let end = n_keys.min(start + SEGMENT);
        // A page may begin before the segment, and end after it.
        let mut next = start;
        std::iter::from_fn(move || {
            let first = next;
            next = end.min((first / page_len + 1) * page_len);
            (first < end).then(|| (first, next - first))
        })
    }

    /// The keys of one head from a position to the end of its page, [head_size, n]. Those that the sequence does not have yet
    /// are arbitrary numbers: whole panels need no copy.
    fn keys(&self, run: &Range<usize>, head: usize, first: usize) -> MatRef<'a> {
        let (hs, page_len) = (self.head_size, self.pages.page_len);
        let part = self.pages.part(self.sequences[run.start] as usize, first, head, (self.n_head, hs));
        MatRef::columns(&self.keys[part..part + hs * page_len], hs, page_len, first % page_len..page_len)
    }

    /// The values of some positions of a page, of one head: [n, head_size].
    fn values(&self, run: &Range<usize>, head: usize, (first, n): (usize, usize)) -> MatRef<'a> {
        let hs = self.head_size;
        let part = self.pages.part(self.sequences[run.start] as usize, first, head, (self.n_head, hs));
        let at = part + first % self.pages.page_len * hs;
        MatRef::dense(&self.values[at..at + n * hs], n, hs)
    }

    /// Panel `j` of the columns of a matrix, [rows, nr], and the distance of its rows: in place if it has all columns, else
    /// packed into `memory`.
    fn panel(&self, matrix: &MatRef<'_>, j: usize, memory: &mut [f32]) -> (*const f32, usize) {
        let Kernels { nr, .. } = self.kernels;
        if (j + 1) * nr <= matrix.cols() {
            return (matrix.at(0, j * nr), matrix.row_stride());
        }
        self.kernels.pack_cols(&mut memory[..matrix.rows() * nr], matrix, j, 0, matrix.rows());
        (memory.as_ptr(), nr)
    }

    /// The partial results of a segment, in `scratch.partials`.
    fn segment(&self, run: &Range<usize>, head: usize, segment: usize, scratch: &mut Scratch<'_>) {
        let n_keys = self.n_keys(run);
        self.scores(run, head, segment, n_keys, scratch);
        let n_in_segment = (n_keys - segment * SEGMENT).min(SEGMENT);
        let partials = scratch.partials.chunks_exact_mut(self.partial_len());
        for ((row, scores), partial) in run.clone().zip(scratch.scores.chunks_exact_mut(SEGMENT)).zip(partials) {
            let n_seen = (self.positions[row] as usize + 1).saturating_sub(segment * SEGMENT).min(SEGMENT);
            let (seen, masked) = scores[..n_in_segment].split_at_mut(n_seen);
            (partial[0], partial[1]) = weigh(self.isa, self.scale, seen);
            masked.fill(0.0);
        }
        self.sums(run, head, segment, n_keys, scratch);
    }

    /// The queries' products with the keys of a segment.
    fn scores(&self, run: &Range<usize>, head: usize, segment: usize, n_keys: usize, scratch: &mut Scratch<'_>) {
        let (hs, c, kernels) = (self.head_size, self.n_head * self.head_size, &self.kernels);
        let (mr, nr, n_rows) = (kernels.mr, kernels.nr, run.len());
        let qkv = &self.qkv[run.start * 3 * c..run.end * 3 * c];
        let queries = MatRef::columns(qkv, n_rows, 3 * c, head * hs..(head + 1) * hs);
        if n_rows > few::MAX_ROWS {
            for (i, panel) in scratch.queries.chunks_exact_mut(mr * hs).enumerate() {
                kernels.pack_rows(panel, &queries, i, 0, hs);
            }
        }
        for page in self.pages_of(segment, n_keys) {
            let keys = self.keys(run, head, page.0);
            for j in 0..page.1.div_ceil(nr) {
                let (column, n) = (page.0 - segment * SEGMENT + j * nr, nr.min(page.1 - j * nr));
                if n_rows <= few::MAX_ROWS {
                    let few = few::kernel(self.isa, NumberFormat::F32, n_rows);
                    let (panel, stride) = self.panel(&keys, j, scratch.page);
                    // SAFETY: the queries have `hs` elements each, the panel is [hs, nr] with rows `stride` apart, and so many
                    // sums fit. Those of positions that the sequence does not have are not copied.
                    unsafe { few(hs, queries.at(0, 0), 3 * c, panel, stride, scratch.sums.as_mut_ptr()) };
                    copy_columns(scratch.sums, nr, n, &mut scratch.scores[column..], SEGMENT, n_rows, false);
                    continue;
                }
                kernels.pack_cols(&mut scratch.page[..hs * nr], &keys, j, 0, hs);
                for (i, panel) in scratch.queries.chunks_exact(mr * hs).enumerate() {
                    let to = scratch.scores[i * mr * SEGMENT + column..].as_mut_ptr();
                    let rows = mr.min(n_rows - i * mr);
                    // SAFETY: the panels are [hs, mr] and [hs, nr]; the scores have these rows and columns.
                    unsafe { kernels.multiply(hs, panel, scratch.page, to, SEGMENT, rows, n, Store::Overwrite) };
                }
            }
        }
    }

    /// The weighted sums of the values of a segment, in the partial results.
    fn sums(&self, run: &Range<usize>, head: usize, segment: usize, n_keys: usize, scratch: &mut Scratch<'_>) {
        let (hs, kernels, len) = (self.head_size, &self.kernels, self.partial_len());
        let (mr, nr, n_rows) = (kernels.mr, kernels.nr, run.len());
        for (p, page) in self.pages_of(segment, n_keys).enumerate() {
            let (column, n) = (page.0 - segment * SEGMENT, page.1);
            let values = self.values(run, head, page);
            if n_rows <= few::MAX_ROWS {
                let few = few::kernel(self.isa, NumberFormat::F32, n_rows);
                for j in 0..hs.div_ceil(nr) {
                    let (panel, stride) = self.panel(&values, j, scratch.page);
                    let x = scratch.scores[column..].as_ptr();
                    // SAFETY: the weights have n columns from `column` on, the panel is [n, nr] with rows `stride` apart, and so
                    // many sums fit.
                    unsafe { few(n, x, SEGMENT, panel, stride, scratch.sums.as_mut_ptr()) };
                    copy_columns(scratch.sums, nr, nr, &mut scratch.partials[2 + j * nr..], len, n_rows, p > 0);
                }
                continue;
            }
            let panels = scratch.page.chunks_exact_mut(n * nr).take(hs.div_ceil(nr));
            panels.enumerate().for_each(|(j, panel)| kernels.pack_cols(panel, &values, j, 0, n));
            let panels = || scratch.page.chunks_exact(n * nr).take(hs.div_ceil(nr)).enumerate();
            for i in 0..n_rows.div_ceil(mr) {
                let weights = MatRef::columns(scratch.scores, n_rows, SEGMENT, column..column + n);
                kernels.pack_rows(scratch.weights, &weights, i, 0, n);
                let (rows, store) = (mr.min(n_rows - i * mr), if p > 0 { Store::Add } else { Store::Overwrite });
                for (j, panel) in panels() {
                    let to = scratch.partials[i * mr * len + 2 + j * nr..].as_mut_ptr();
                    // SAFETY: the panels are [n, mr] and [n, nr]; partial results have whole panels of columns.
                    unsafe { kernels.multiply(n, scratch.weights, panel, to, len, rows, nr, store) };
                }
            }
        }
    }
}

/// Copies, or adds, the first `n` columns of sums [n_rows, nr] to rows `stride` apart.
fn copy_columns(sums: &[f32], nr: usize, n: usize, to: &mut [f32], stride: usize, n_rows: usize, add: bool) {
    for (sums, to) in sums.chunks_exact(nr).zip(to.chunks_mut(stride)).take(n_rows) {
        if add {
            to[..n].iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
        } else {
            to[..n].copy_from_slice(&sums[..n]);
        }
    }
}

multiversion! {
    /// Turns scores into weights relative to the largest; returns the largest score and the sum of weights.
    fn weigh(scale: f32, scores: &mut [f32]) -> (f32, f32) = weigh_body;
}

#[inline(always)]
fn weigh_body(scale: f32, scores: &mut [f32]) -> (f32, f32) {
    let max = max_of(scores);
    (max, exp_and_sum(scores, max, scale))
}

multiversion! {
    /// Adds the partial result of the next segment.
    fn add_segment(scale: f32, segment: &[f32], merged: &mut [f32]) = add_segment_body;
}

#[inline(always)]
fn add_segment_body(scale: f32, segment: &[f32], merged: &mut [f32]) {
    let max = if segment[0] > merged[0] { segment[0] } else { merged[0] };
    let factors = [exp(scale * (merged[0] - max)), exp(scale * (segment[0] - max))];
    merged[0] = max;
    for (to, from) in merged[1..].iter_mut().zip(&segment[1..]) {
        *to = *to * factors[0] + from * factors[1];
    }
}
