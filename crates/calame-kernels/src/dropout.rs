//! Dropout: y = x·keep, where keep is 0 with probability p and 1 / (1 − p) otherwise.
//!
//! N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014. Whether an element is
//! kept is a function of [`Keep`] and the element's place, so that backward makes the same factors again.

use crate::isa::multiversion;
use crate::philox::{self, BLOCK, Key};
use crate::pool::Pool;
use crate::split::for_rows;

/// Which elements a dropout keeps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Keep {
    key: Key,
    first_sequence: u32,
    site: u32,
    /// An element is dropped where its random number is below.
    threshold: u32,
    scale: f32,
}

impl Keep {
    /// Factors for probability `p` of being dropped.
    ///
    /// `key` stands for seed and step, `first_sequence` is the place of the batch's first sequence in the step's whole
    /// batch, `site` names layer and place in the layer.
    ///
    /// # Panics
    /// If p is not in [0, 1).
    pub fn new(key: Key, first_sequence: u32, site: u32, p: f32) -> Keep {
        assert!((0.0..1.0).contains(&p), "dropout of {p}: expected 0 ≤ p < 1");
        let threshold = (f64::from(p) * 4_294_967_296.0).round() as u32;
        Keep { key, first_sequence, site, threshold, scale: 1.0 / (1.0 - p) }
    }

    /// The factor of one element: of `sequence` in the batch, of a row of that sequence, in a column.
    pub fn factor(&self, sequence: usize, row: usize, column: usize) -> f32 {
        let (block, number) = (column / BLOCK, column % BLOCK);
        let counter = (block * 16 + number % 16) as u32;
        let words = philox::philox([counter, row as u32, self.sequence(sequence), self.site], self.key);
        if words[number / 16] < self.threshold { 0.0 } else { self.scale }
    }

    fn sequence(&self, sequence: usize) -> u32 {
        self.first_sequence.wrapping_add(sequence as u32)
    }

    /// Multiplies a row by its factors.
    #[inline(always)]
    pub(crate) fn apply(&self, sequence: usize, row: usize, x: &mut [f32]) {
        self.each(sequence, row, 0, x, |x, factor| *x *= factor);
    }

    /// Calls `f(&mut x[i], factor)` for a row's elements from column `from` on, a multiple of [`BLOCK`].
    #[inline(always)]
    pub(crate) fn each(&self, sequence: usize, row: usize, from: usize, x: &mut [f32], f: impl Fn(&mut f32, f32)) {
        assert!(from.is_multiple_of(BLOCK), "a row's elements from {from} on");
        let rest = [row as u32, self.sequence(sequence), self.site];
        for (index, x) in x.chunks_mut(BLOCK).enumerate() {
            let words = philox::block((from / BLOCK + index) as u32, rest, self.key);
            for (words, x) in words.iter().zip(x.chunks_mut(16)) {
                for (x, &word) in x.iter_mut().zip(words) {
                    f(x, if word < self.threshold { 0.0 } else { self.scale });
                }
            }
        }
    }

    /// The factors of a row.
    #[inline(always)]
    pub(crate) fn factors(&self, sequence: usize, row: usize, factors: &mut [f32]) {
        self.each(sequence, row, 0, factors, |to, factor| *to = factor);
    }
}

multiversion! {
    /// y ← x + y·keep for a piece of a row that begins at (sequence, row, column), the column a multiple of [`BLOCK`].
    pub(crate) fn add_dropped(x: &[f32], keep: Option<&Keep>, place: (usize, usize, usize), y: &mut [f32])
        = add_dropped_body;
}

#[inline(always)]
fn add_dropped_body(x: &[f32], keep: Option<&Keep>, (sequence, row, from): (usize, usize, usize), y: &mut [f32]) {
    if let Some(keep) = keep {
        keep.each(sequence, row, from, y, |y, factor| *y *= factor);
    }
    y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
}

/// y = x·keep; forward and, from dy to dx, backward. y is overwritten.
///
/// # Panics
/// If the sizes do not agree.
pub fn drop_elements(pool: &Pool, x: &[f32], keep: &Keep, rows_per_sequence: usize, cols: usize, y: &mut [f32]) {
    assert!(x.len() == y.len(), "drop_elements: lengths");
    for_rows(pool, y, cols, |first_row, y| {
        let at = first_row * cols;
        y.copy_from_slice(&x[at..at + y.len()]);
        drop_rows(pool.isa(), keep, rows_per_sequence, cols, first_row, y);
    });
}

/// x ← x·keep.
///
/// # Panics
/// If the sizes do not agree.
pub fn drop_in_place(pool: &Pool, keep: &Keep, rows_per_sequence: usize, cols: usize, x: &mut [f32]) {
    for_rows(pool, x, cols, |first_row, x| drop_rows(pool.isa(), keep, rows_per_sequence, cols, first_row, x));
}

multiversion! {
    fn drop_rows(keep: &Keep, rows_per_sequence: usize, cols: usize, first_row: usize, x: &mut [f32]) = drop_rows_body;
}

#[inline(always)]
fn drop_rows_body(keep: &Keep, rows_per_sequence: usize, cols: usize, first_row: usize, x: &mut [f32]) {
    for (i, x) in x.chunks_exact_mut(cols).enumerate() {
        let row = first_row + i;
        keep.apply(row / rows_per_sequence, row % rows_per_sequence, x);
    }
}
