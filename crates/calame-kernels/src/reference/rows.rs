//! Operations on rows of a matrix, by number.

use super::real::{Real, zero};

/// Copies row `which[i]` of x to row i of y.
pub fn gather_rows<F: Real>(x: &[F], cols: usize, which: &[u32], y: &mut [F]) {
    for (i, y) in y.iter_mut().enumerate() {
        *y = x[which[i / cols] as usize * cols + i % cols];
    }
}

/// Adds row i of x to row `which[i]` of y.
pub fn scatter_rows_add<F: Real>(x: &[F], cols: usize, which: &[u32], y: &mut [F]) {
    for (i, &x) in x.iter().enumerate() {
        y[which[i / cols] as usize * cols + i % cols] += x;
    }
}

/// Sets `rows[r]` if row r has an element that is not 0.
pub fn nonzero_rows<F: Real>(x: &[F], cols: usize, rows: &mut [bool]) {
    for (i, &x) in x.iter().enumerate() {
        rows[i / cols] |= x != zero();
    }
}
