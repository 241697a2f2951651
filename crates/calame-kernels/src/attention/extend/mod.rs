//! Attention for inference: new rows of any sequences over their sequences' cached keys and values.
//!
//! A block of rows is processed at a time, over segments of [`SEGMENT`] positions: scores, their exponentials relative to
//! the segment's largest, and the weighted sum of the values. The segments of a row are merged in order (M. Milakov and N.
//! Gimelshein, "Online normalizer calculation for softmax", 2018). Few rows are too few tasks for many cores: their
//! segments are computed by different tasks, and merged afterwards.
//!
//! A row's result depends only on its query and its sequence's keys and values, not on the other rows of the call, and not
//! on how the prompt was split: the products are those of the micro-kernels, with one order of sums for any number of
//! rows, and the boundaries of segments are those of positions.

mod block;

use block::{Extend, SEGMENT};

use super::pages::KvPages;
use crate::aligned::AlignedVec;
use crate::disjoint_mut::DisjointMut;
use crate::gemm::kernels_of;
use crate::pool::Pool;
use crate::precision::Precision;
use crate::sizes::{has_dims, product};
use crate::split::{COLUMNS, TASK_ELEMENTS};

/// Copies the keys and values of new rows from qkv [R, 3C] to their positions in the page stores.
///
/// If two rows have the same position, the later row wins.
///
/// # Panics
/// If the sizes do not agree, or a page is outside its store.
pub fn store_kv(
    pool: &Pool,
    qkv: &[f32],
    (n_head, head_size): (usize, usize),
    sequences: &[u32],
    positions: &[u32],
    pages: KvPages<'_>,
    keys: &mut [f32],
    values: &mut [f32],
) {
    let (rows, channels) = (positions.len(), product([n_head, head_size]).unwrap_or(usize::MAX));
    assert!(
        channels > 0
            && sequences.len() == rows
            && has_dims(qkv.len(), [rows, 3, channels])
            && keys.len() == values.len(),
        "store_kv: {} elements for {rows} rows of {channels} channels, stores of {} and {}",
        qkv.len(),
        keys.len(),
        values.len()
    );
    for (&s, &t) in sequences.iter().zip(positions) {
        pages.check_page("store_kv", s, t as usize / pages.page_len, keys.len() / channels);
    }
    // Tasks are ranges of heads, not of rows, because two rows may have the same position. A few rows are one task: copying
    // them is faster than waking a thread.
    let per_task = (TASK_ELEMENTS / rows.max(1)).max(COLUMNS).div_ceil(head_size);
    let (keys, values) = (DisjointMut::new(keys), DisjointMut::new(values));
    pool.run(n_head.div_ceil(per_task), |task| {
        for ((row, &s), &t) in qkv.chunks_exact(3 * channels).zip(sequences).zip(positions) {
            for head in task * per_task..((task + 1) * per_task).min(n_head) {
                let part = pages.part(s as usize, t as usize, head, (n_head, head_size));
                let (at, columns) = (t as usize % pages.page_len, head * head_size..(head + 1) * head_size);
                let value = part + at * head_size;
                // SAFETY: tasks have different heads, and a task handles one row at a time.
                let (k, v) = unsafe {
                    (keys.part(part, part + head_size * pages.page_len), values.part(value, value + head_size))
                };
                let k = k[at..].iter_mut().step_by(pages.page_len);
                k.zip(&row[channels..][columns.clone()]).for_each(|(k, x)| *k = *x);
                v.copy_from_slice(&row[2 * channels..][columns]);
            }
        }
    });
}

/// Computes y [R, C], which is overwritten: row r attends to positions 0..=`positions[r]` of its sequence.
///
/// `scale` multiplies the scores before the softmax. The rows' own keys and values must be stored already
/// ([`store_kv`]).
///
/// # Panics
/// If the sizes do not agree, `scale` is not positive, or a page is outside its store.
pub fn attention_extend(
    pool: &Pool,
    qkv: &[f32],
    n_head: usize,
    head_size: usize,
    scale: f32,
    sequences: &[u32],
    positions: &[u32],
    pages: KvPages<'_>,
    keys: &[f32],
    values: &[f32],
    y: &mut [f32],
) {
    let rows = positions.len();
    let c = product([n_head, head_size]).unwrap_or(usize::MAX);
    assert!(
        c > 0
            && scale > 0.0
            && sequences.len() == rows
            && has_dims(qkv.len(), [rows, 3, n_head, head_size])
            && has_dims(y.len(), [rows, n_head, head_size])
            && keys.len() == values.len(),
        "attention_extend: {rows} rows of {c} channels, scale {scale}, qkv of {} elements, y of {}, stores of {} and {}",
        qkv.len(),
        y.len(),
        keys.len(),
        values.len()
    );
    for (&s, &t) in sequences.iter().zip(positions) {
        for i in 0..=t as usize / pages.page_len {
            pages.check_page("attention_extend", s, i, keys.len() / c);
        }
    }
    let (isa, kernels) = (pool.isa(), kernels_of(pool.isa(), Precision::F32));
    let extend = Extend { isa, kernels, n_head, head_size, scale, qkv, sequences, positions, pages, keys, values };
    let y = DisjointMut::new(y);
    let n_segments = positions.iter().map(|&t| (t as usize + 1).div_ceil(SEGMENT)).max().unwrap_or(0);
    if rows <= FEW_ROWS && n_segments > 1 {
        return split_segments(pool, &extend, n_segments, &y);
    }
    let block = extend.block_rows();
    pool.run_with_scratch(rows.div_ceil(block) * n_head, |task, scratch| {
        let (first, head) = (task / n_head * block, task % n_head);
        for run in extend.runs(first..(first + block).min(rows)) {
            // SAFETY: each task has a different head or rows.
            unsafe { extend.attend(run, head, scratch, &y) };
        }
    });
}

/// Up to so many rows, the segments of a row are different tasks.
const FEW_ROWS: usize = 4;

/// Computes the segments of a few rows in parallel, then merges those of each row.
fn split_segments(pool: &Pool, extend: &Extend<'_>, n_segments: usize, y: &DisjointMut<f32>) {
    let (rows, n_head, len) = (extend.positions.len(), extend.n_head, extend.partial_len());
    let mut guard = pool.lock();
    let (workspace, mut phases) = guard.split();
    let partials = DisjointMut::new(workspace.packed_a.resize_uninit(rows * n_head * n_segments * len));
    let at = |row: usize, head: usize, segment: usize| ((row * n_head + head) * n_segments + segment) * len;
    phases.run(n_head * n_segments, &|task, scratch: &mut AlignedVec| {
        let (head, segment) = (task / n_segments, task % n_segments);
        for run in extend.runs(0..rows) {
            extend.for_segment(run, head, segment, scratch, |row, partial| {
                let start = at(row, head, segment);
                // SAFETY: each task has a different head or segment.
                unsafe { partials.part(start, start + len) }.copy_from_slice(partial);
            });
        }
    });
    phases.run(rows * n_head, &|task, scratch: &mut AlignedVec| {
        let (row, head) = (task / n_head, task % n_head);
        // SAFETY: partials are not written in this phase; each task has a different row or head.
        unsafe {
            let of = |segment: usize| partials.read(at(row, head, segment), at(row, head, segment) + len);
            extend.merge(row, head, (0..extend.n_segments(row)).map(of), scratch, y);
        }
    });
}
