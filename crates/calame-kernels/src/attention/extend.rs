//! Attention of inference: new rows of any sequences over the keys and values kept for them.
//!
//! A row's result depends on its own query and its sequence's keys alone: each row walks its pages in order, whatever rows
//! stand beside it and however its prompt was cut.

use crate::isa::multiversion;
use crate::math::{exp_and_sum, max_of, sum_of2};
use crate::pool::{Pool, Shards};

/// Where the keys and values of many sequences stand.
///
/// A page holds `page_len` positions, each a row of C; `table` lists, for each sequence, `pages_per_sequence` pages.
#[derive(Clone, Copy, Debug)]
pub struct KvPages<'a> {
    /// Positions in a page.
    pub page_len: usize,
    /// Pages of sequence s, in order of position: `table[s * pages_per_sequence..]`.
    pub table: &'a [u32],
    /// Length of a sequence's part of the table.
    pub pages_per_sequence: usize,
}

impl KvPages<'_> {
    /// The row of the page store that holds a position of a sequence.
    #[inline(always)]
    fn row(&self, sequence: usize, position: usize) -> usize {
        let page = self.table[sequence * self.pages_per_sequence + position / self.page_len];
        page as usize * self.page_len + position % self.page_len
    }
}

/// Copies the keys and values of new rows, out of qkv [R, 3C], into their places in the page stores [·, C].
///
/// # Panics
/// If the sizes do not agree, or a page is outside its store.
pub fn store_kv(
    qkv: &[f32],
    channels: usize,
    sequences: &[u32],
    positions: &[u32],
    pages: KvPages<'_>,
    keys: &mut [f32],
    values: &mut [f32],
) {
    assert!(
        sequences.len() == positions.len() && qkv.len() == positions.len() * 3 * channels,
        "store_kv: {} elements for {} rows of {channels} channels",
        qkv.len(),
        positions.len()
    );
    for ((row, &s), &t) in qkv.chunks_exact(3 * channels).zip(sequences).zip(positions) {
        let at = pages.row(s as usize, t as usize) * channels;
        keys[at..at + channels].copy_from_slice(&row[channels..2 * channels]);
        values[at..at + channels].copy_from_slice(&row[2 * channels..]);
    }
}

/// y [R, C], overwritten: row r attends to positions 0..=`positions[r]` of its sequence.
///
/// # Panics
/// If the sizes do not agree, or a page is outside its store.
pub fn attention_extend(
    pool: &Pool,
    qkv: &[f32],
    n_head: usize,
    head_size: usize,
    sequences: &[u32],
    positions: &[u32],
    pages: KvPages<'_>,
    keys: &[f32],
    values: &[f32],
    y: &mut [f32],
) {
    let (rows, c) = (positions.len(), n_head * head_size);
    assert!(
        sequences.len() == rows && qkv.len() == rows * 3 * c && y.len() == rows * c,
        "attention_extend: {rows} rows of {c} channels, qkv of {} elements, y of {}",
        qkv.len(),
        y.len()
    );
    let y = Shards::new(y);
    pool.run_with_scratch(rows * n_head, |task, scratch| {
        let (r, h) = (task / n_head, task % n_head);
        let (sequence, n_keys) = (sequences[r] as usize, positions[r] as usize + 1);
        let query = &qkv[r * 3 * c + h * head_size..][..head_size];
        // SAFETY: each task has its own head of its own row.
        let y = unsafe { y.part(r * c + h * head_size, r * c + (h + 1) * head_size) };
        let weights = scratch.first(n_keys);
        let place = |t: usize| pages.row(sequence, t) * c + h * head_size;
        attend(pool.isa(), query, &place, keys, values, weights, y);
    });
}

multiversion! {
    fn attend(
        query: &[f32], place: &dyn Fn(usize) -> usize, keys: &[f32], values: &[f32], weights: &mut [f32],
        y: &mut [f32],
    ) = attend_body;
}

#[inline(always)]
fn attend_body(
    query: &[f32],
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
    let sum = exp_and_sum(weights, max, 1.0 / (query.len() as f32).sqrt());
    y.fill(0.0);
    for (t, &weight) in weights.iter().enumerate() {
        let value = &values[place(t)..][..y.len()];
        y.iter_mut().zip(value).for_each(|(y, &v)| *y += weight * v);
    }
    let inverse = 1.0 / sum;
    y.iter_mut().for_each(|y| *y *= inverse);
}
