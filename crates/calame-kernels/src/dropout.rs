//! Dropout: y = x·keep, where keep is 0 with probability p and 1 / (1 − p) otherwise.
//!
//! N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014. Whether an element
//! is kept is a function of the [`DropMask`] and the element's position, so that backward obtains the same factors as
//! forward.

use crate::isa::multiversion;
use crate::philox::{self, BLOCK, Key};
use crate::pool::Pool;
use crate::sizes::product;
use crate::split::for_rows;

/// Which elements a dropout keeps, and the factor by which it multiplies them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DropMask<'a> {
    source: MaskSource<'a>,
    scale: f32,
}

/// What decides whether an element is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
enum MaskSource<'a> {
    /// An element is dropped if its random number is below the threshold.
    Counter { key: Key, first_sequence: u32, site: u32, threshold: u32 },
    /// An element is kept if its bit is set; every row begins at a word.
    Stored { words: &'a [u64], rows_per_sequence: usize, words_per_row: usize },
}

// A block of the generator's numbers has as many elements as a word of stored bits.
const _: () = assert!(BLOCK == u64::BITS as usize);

impl<'a> DropMask<'a> {
    /// A mask from the counter-based generator, in which each element is dropped with probability `p`.
    ///
    /// `key` is derived from seed and step, `first_sequence` is the index of the batch's first sequence in the step's
    /// whole batch, and `site` identifies the layer and the dropout within it.
    ///
    /// # Panics
    /// If p is not in [0, 1).
    pub fn new(key: Key, first_sequence: u32, site: u32, p: f32) -> DropMask<'a> {
        assert!((0.0..1.0).contains(&p), "dropout of {p}: expected 0 ≤ p < 1");
        let threshold = (f64::from(p) * 4_294_967_296.0).round() as u32;
        DropMask { source: MaskSource::Counter { key, first_sequence, site, threshold }, scale: 1.0 / (1.0 - p) }
    }

    /// A mask from stored bits: the factor is `scale` where an element's bit is 1, and 0 elsewhere.
    ///
    /// `words` contains the rows of all sequences in order, `columns` bits each. Column c of a row is bit c mod 64 of
    /// its word c / 64; every row begins at a word.
    ///
    /// # Panics
    /// If `words` is not a whole number of sequences.
    pub fn stored(words: &'a [u64], rows_per_sequence: usize, columns: usize, scale: f32) -> DropMask<'a> {
        let words_per_row = columns.div_ceil(BLOCK);
        let words_per_sequence = product([rows_per_sequence, words_per_row]);
        assert!(
            words_per_sequence.is_some_and(|n| n > 0 && words.len().is_multiple_of(n)),
            "a mask of {} words for sequences of {rows_per_sequence} rows of {columns}",
            words.len()
        );
        DropMask { source: MaskSource::Stored { words, rows_per_sequence, words_per_row }, scale }
    }

    /// The factor of the element in a row and a column of a sequence of the batch.
    pub fn factor(&self, sequence: usize, row: usize, column: usize) -> f32 {
        let (block, number) = (column / BLOCK, column % BLOCK);
        let kept = match self.source {
            MaskSource::Counter { key, first_sequence, site, threshold } => {
                let counter = (block * 16 + number % 16) as u32;
                let sequence = first_sequence.wrapping_add(sequence as u32);
                philox::philox([counter, row as u32, sequence, site], key)[number / 16] >= threshold
            }
            MaskSource::Stored { words, rows_per_sequence, words_per_row } => {
                stored_row(words, sequence * rows_per_sequence + row, words_per_row)[block] >> number & 1 == 1
            }
        };
        if kept { self.scale } else { 0.0 }
    }

    /// Multiplies a row by its factors.
    #[inline(always)]
    pub(crate) fn apply(&self, sequence: usize, row: usize, x: &mut [f32]) {
        self.each(sequence, row, 0, x, |x, factor| *x *= factor);
    }

    /// Calls `f(&mut x[i], factor)` for the elements of a row from column `from`, a multiple of [`BLOCK`].
    #[inline(always)]
    pub(crate) fn each(&self, sequence: usize, row: usize, from: usize, x: &mut [f32], f: impl Fn(&mut f32, f32)) {
        assert!(from.is_multiple_of(BLOCK), "a row's elements from {from} on");
        let scale = self.scale;
        match self.source {
            MaskSource::Counter { key, first_sequence, site, threshold } => {
                let rest = [row as u32, first_sequence.wrapping_add(sequence as u32), site];
                for (index, x) in x.chunks_mut(BLOCK).enumerate() {
                    let words = philox::block((from / BLOCK + index) as u32, rest, key);
                    for (words, x) in words.iter().zip(x.chunks_mut(16)) {
                        for (x, &word) in x.iter_mut().zip(words) {
                            f(x, if word < threshold { 0.0 } else { scale });
                        }
                    }
                }
            }
            MaskSource::Stored { words, rows_per_sequence, words_per_row } => {
                let words = &stored_row(words, sequence * rows_per_sequence + row, words_per_row)[from / BLOCK..];
                assert!(x.len() <= words.len() * BLOCK, "a mask of {} words for {} elements", words.len(), x.len());
                for (x, &word) in x.chunks_mut(BLOCK).zip(words) {
                    for (column, x) in x.iter_mut().enumerate() {
                        f(x, if word >> column & 1 == 1 { scale } else { 0.0 });
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn stored_row(words: &[u64], row: usize, words_per_row: usize) -> &[u64] {
    &words[row * words_per_row..(row + 1) * words_per_row]
}

multiversion! {
    /// y ← x + y·keep for a piece of a row that begins at (sequence, row, column); the column is a multiple of
    /// [`BLOCK`].
    pub(crate) fn add_dropped(x: &[f32], keep: Option<&DropMask<'_>>, place: (usize, usize, usize), y: &mut [f32])
        = add_dropped_body;
}

#[inline(always)]
fn add_dropped_body(
    x: &[f32],
    keep: Option<&DropMask<'_>>,
    (sequence, row, from): (usize, usize, usize),
    y: &mut [f32],
) {
    if let Some(keep) = keep {
        keep.each(sequence, row, from, y, |y, factor| *y *= factor);
    }
    y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
}

/// Computes y = x·keep; backward is the same operation, from dy to dx. y is overwritten.
///
/// # Panics
/// If the sizes do not agree.
pub fn drop_elements(
    pool: &Pool,
    x: &[f32],
    keep: &DropMask<'_>,
    rows_per_sequence: usize,
    cols: usize,
    y: &mut [f32],
) {
    assert!(x.len() == y.len(), "drop_elements: lengths");
    for_rows(pool, y, cols, |first_row, y| {
        let at = first_row * cols;
        y.copy_from_slice(&x[at..at + y.len()]);
        drop_rows(pool.isa(), keep, rows_per_sequence, cols, first_row, y);
    });
}

/// Multiplies x [R, cols] by the mask in place: x ← x·keep.
///
/// # Panics
/// If the sizes do not agree.
pub fn drop_in_place(pool: &Pool, keep: &DropMask<'_>, rows_per_sequence: usize, cols: usize, x: &mut [f32]) {
    for_rows(pool, x, cols, |first_row, x| drop_rows(pool.isa(), keep, rows_per_sequence, cols, first_row, x));
}

multiversion! {
    fn drop_rows(keep: &DropMask<'_>, rows_per_sequence: usize, cols: usize, first_row: usize, x: &mut [f32])
        = drop_rows_body;
}

#[inline(always)]
fn drop_rows_body(keep: &DropMask<'_>, rows_per_sequence: usize, cols: usize, first_row: usize, x: &mut [f32]) {
    for (i, x) in x.chunks_exact_mut(cols).enumerate() {
        let row = first_row + i;
        keep.apply(row / rows_per_sequence, row % rows_per_sequence, x);
    }
}
