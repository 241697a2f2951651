//! Operations on rows of a matrix: gather, scatter, copy, and the search for rows that are not zero.

use crate::pool::Pool;
use crate::sizes::has_dims;
use crate::split::for_rows;

/// Asserts that `len` elements are whole rows, and that every number in `which` is one of them.
pub(crate) fn check_rows(operation: &str, len: usize, cols: usize, which: &[u32]) {
    assert!(cols > 0 && len.is_multiple_of(cols), "{operation}: {len} elements in rows of {cols}");
    let rows = len / cols;
    for (i, &row) in which.iter().enumerate() {
        assert!((row as usize) < rows, "{operation}: row {row}, number {i} of those asked for, of {rows} rows");
    }
}

/// Copies row `which[i]` of x [R, cols] to row i of y [N, cols], on all threads; y is overwritten.
///
/// # Panics
/// If the sizes do not agree, or a number in `which` is not a row of x.
pub fn gather_rows(pool: &Pool, x: &[f32], cols: usize, which: &[u32], y: &mut [f32]) {
    check_rows("gather_rows", x.len(), cols, which);
    assert!(
        has_dims(y.len(), [which.len(), cols]),
        "gather_rows: {} rows of {cols} into {} elements",
        which.len(),
        y.len()
    );
    for_rows(pool, y, cols, |first, y| {
        for (y, &row) in y.chunks_exact_mut(cols).zip(&which[first..]) {
            y.copy_from_slice(&x[row as usize * cols..][..cols]);
        }
    });
}

/// Adds row i of x [N, cols] to row `which[i]` of y [R, cols].
///
/// It runs on one thread, row after row: several rows may be added to the same one, and the sums need one order.
///
/// # Panics
/// If the sizes do not agree, or a number in `which` is not a row of y.
pub fn scatter_rows_add(x: &[f32], cols: usize, which: &[u32], y: &mut [f32]) {
    check_rows("scatter_rows_add", y.len(), cols, which);
    assert!(
        has_dims(x.len(), [which.len(), cols]),
        "scatter_rows_add: {} elements for {} rows of {cols}",
        x.len(),
        which.len()
    );
    for (x, &row) in x.chunks_exact(cols).zip(which) {
        let y = &mut y[row as usize * cols..][..cols];
        y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
    }
}

/// Sets `rows[r]` if row r of x [R, cols] has an element that is not 0, such as NaN; other entries are unchanged.
///
/// # Panics
/// If the sizes do not agree.
pub fn nonzero_rows(x: &[f32], cols: usize, rows: &mut [bool]) {
    assert!(
        cols > 0 && has_dims(x.len(), [rows.len(), cols]),
        "nonzero_rows: {} elements, {} rows of {cols}",
        x.len(),
        rows.len()
    );
    for (x, is_nonzero) in x.chunks_exact(cols).zip(rows) {
        *is_nonzero = *is_nonzero || x.iter().any(|&x| x != 0.0);
    }
}

/// Copies `n_rows` rows of x [R, cols], beginning at `from_row`, to the rows beginning at `to_row`; they may overlap.
///
/// # Panics
/// If the sizes do not agree, or a row is outside of x.
pub fn copy_rows(x: &mut [f32], cols: usize, from_row: usize, to_row: usize, n_rows: usize) {
    assert!(cols > 0 && x.len().is_multiple_of(cols), "copy_rows: {} elements in rows of {cols}", x.len());
    let rows = x.len() / cols;
    assert!(
        n_rows <= rows && from_row.max(to_row) <= rows - n_rows,
        "copy_rows: {n_rows} rows from {from_row} to {to_row} of {rows}"
    );
    x.copy_within(from_row * cols..(from_row + n_rows) * cols, to_row * cols);
}
