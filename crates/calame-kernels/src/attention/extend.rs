//! Attention for inference: new rows of any sequences over their sequences' cached keys and values.
//!
//! Each row visits its pages in order, so its result depends only on its query and its sequence's keys and values: not
//! on the other rows of the call, and not on how the prompt was split.

use crate::disjoint_mut::DisjointMut;
use crate::isa::multiversion;
use crate::math::{exp_and_sum, max_of, sum_of2};
use crate::pool::Pool;
use crate::sizes::{has_dims, product};
use crate::split::{COLUMNS, TASK_ELEMENTS};

/// The pages that store the keys and values of many sequences.
///
/// A page holds `page_len` positions, each a row of C elements. Page tables may differ in length; they are concatenated
/// in `table`. A page listed in several tables is shared by their sequences.
#[derive(Clone, Copy, Debug)]
pub struct KvPages<'a> {
    /// Number of positions in a page.
    pub page_len: usize,
    /// Page numbers; those of sequence s, in order of position, begin at `table[starts[s]]`.
    pub table: &'a [u32],
    /// Where each sequence's page table begins in `table`.
    pub starts: &'a [u32],
}

impl KvPages<'_> {
    /// The row of the page store that holds a position of a sequence.
    #[inline(always)]
    pub(crate) fn row(&self, sequence: usize, position: usize) -> usize {
        let page = self.table[self.starts[sequence] as usize + position / self.page_len];
        page as usize * self.page_len + position % self.page_len
    }

    /// Asserts that page `i` of a sequence exists and lies within a store of `n_rows` rows.
    fn check_page(&self, operation: &str, sequence: u32, i: usize, n_rows: usize) {
        let start = self.starts.get(sequence as usize);
        let page = start.and_then(|&start| self.table.get((start as usize).checked_add(i)?));
        assert!(
            page.is_some_and(|&page| (page as usize + 1).checked_mul(self.page_len).is_some_and(|end| end <= n_rows)),
            "{operation}: page {i} of sequence {sequence} is {page:?} in a store of {n_rows} rows, {} to a page",
            self.page_len
        );
    }
}

/// Copies the keys and values of new rows from qkv [R, 3C] to their positions in the page stores [·, C].
///
/// If two rows have the same position, the later row wins.
///
/// # Panics
/// If the sizes do not agree, or a page is outside its store.
pub fn store_kv(
    pool: &Pool,
    qkv: &[f32],
    channels: usize,
    sequences: &[u32],
    positions: &[u32],
    pages: KvPages<'_>,
    keys: &mut [f32],
    values: &mut [f32],
) {
    let rows = positions.len();
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
    // Tasks are ranges of columns, not of rows, because two rows may have the same position. A few rows are one task:
    // copying them is faster than waking a thread.
    let width = (TASK_ELEMENTS / rows.max(1)).max(COLUMNS);
    let (keys, values) = (DisjointMut::new(keys), DisjointMut::new(values));
    pool.run(channels.div_ceil(width), |task| {
        let (from, to) = (task * width, ((task + 1) * width).min(channels));
        for ((row, &s), &t) in qkv.chunks_exact(3 * channels).zip(sequences).zip(positions) {
            let at = pages.row(s as usize, t as usize) * channels;
            // SAFETY: tasks have different columns, and a task handles one row at a time.
            let (k, v) = unsafe { (keys.part(at + from, at + to), values.part(at + from, at + to)) };
            k.copy_from_slice(&row[channels + from..channels + to]);
            v.copy_from_slice(&row[2 * channels + from..2 * channels + to]);
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
    let y = DisjointMut::new(y);
    pool.run_with_scratch(rows * n_head, |task, scratch| {
        let (r, h) = (task / n_head, task % n_head);
        let (sequence, n_keys) = (sequences[r] as usize, positions[r] as usize + 1);
        let query = &qkv[r * 3 * c + h * head_size..][..head_size];
        // SAFETY: each task has a different head or row.
        let y = unsafe { y.part(r * c + h * head_size, r * c + (h + 1) * head_size) };
        let weights = scratch.resize_uninit(n_keys);
        let place = |t: usize| pages.row(sequence, t) * c + h * head_size;
        attend(pool.isa(), query, scale, &place, keys, values, weights, y);
    });
}

multiversion! {
    fn attend(
        query: &[f32], scale: f32, place: &dyn Fn(usize) -> usize, keys: &[f32], values: &[f32],
        weights: &mut [f32], y: &mut [f32],
    ) = attend_body;
}

#[inline(always)]
fn attend_body(
    query: &[f32],
    scale: f32,
    place: &dyn Fn(usize) -> usize,
    keys: &[f32],
    values: &[f32],
    weights: &mut [f32],
    y: &mut [f32],
) {
    for (t, weight) in weights.iter_mut().enumerate() {
        *weight = sum_of2(query, &keys[place(t)..][..query.len()], |q, k| q * k);
    }
    let max = max_of(weights);
    let sum = exp_and_sum(weights, max, scale);
    y.fill(0.0);
    for (t, &weight) in weights.iter().enumerate() {
        let value = &values[place(t)..][..y.len()];
        y.iter_mut().zip(value).for_each(|(y, &v)| *y += weight * v);
    }
    let inverse = 1.0 / sum;
    y.iter_mut().for_each(|y| *y *= inverse);
}
