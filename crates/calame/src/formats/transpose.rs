//! Transposes matrices: Hugging Face and ONNX store a linear weight as [in, out], in memory it is [out, in].

/// Overwrites `to` [rows, cols] with the transpose of `from` [cols, rows].
///
/// Copies squares through the stack. Rows at a distance of a multiple of 4 kB share one set of the first-level cache
/// and would evict each other before a cache line is fully used.
pub(super) fn transpose<T: Copy + Default>(from: &[T], rows: usize, to: &mut [T]) {
    const SIDE: usize = 32;
    let cols = to.len() / rows.max(1);
    let mut square = [[T::default(); SIDE]; SIDE];
    for r0 in (0..rows).step_by(SIDE) {
        let n_rows = SIDE.min(rows - r0);
        for c0 in (0..cols).step_by(SIDE) {
            let n_cols = SIDE.min(cols - c0);
            for c in 0..n_cols {
                let at = (c0 + c) * rows + r0;
                for (row, x) in square.iter_mut().zip(&from[at..at + n_rows]) {
                    row[c] = *x;
                }
            }
            for (r, row) in square.iter().enumerate().take(n_rows) {
                let at = (r0 + r) * cols + c0;
                to[at..at + n_cols].copy_from_slice(&row[..n_cols]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns() {
        for (rows, cols) in [(1, 1), (1, 7), (33, 1), (31, 65), (64, 32), (0, 5)] {
            let from: Vec<u32> = (0..(rows * cols) as u32).collect();
            let mut to = vec![0; rows * cols];
            transpose(&from, rows, &mut to);
            for r in 0..rows {
                for c in 0..cols {
                    assert_eq!(to[r * cols + c], from[c * rows + r], "[{rows}, {cols}] at {r}, {c}");
                }
            }
        }
    }
}
