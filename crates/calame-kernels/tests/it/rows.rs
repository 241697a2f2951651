//! Operations on rows by number, and positions.

use calame_kernels::{Isa, Pool, copy_rows, gather_rows, nonzero_rows, positions, reference, scatter_rows_add};

use crate::support::{for_every_pool, nans, numbers};

/// `n` row numbers below `rows`, some of them repeated.
fn some_rows(n: usize, rows: usize) -> Vec<u32> {
    (0..n).map(|i| (i * i * 7 % rows) as u32).collect()
}

#[test]
fn gathered_and_scattered_rows() {
    for cols in [1, 7, 16, 17, 65, 768] {
        for n in [0, 1, 7, 16, 17, 65, 200] {
            let (rows, which) = (23, some_rows(n, 23));
            let (x, y) = (numbers(1, rows * cols), numbers(2, n * cols));
            let mut want = nans(n * cols);
            reference::gather_rows(&x, cols, &which, &mut want);
            for_every_pool(|pool| {
                let mut gathered = nans(n * cols);
                gather_rows(pool, &x, cols, &which, &mut gathered);
                assert_eq!(gathered, want);
            });
            let (mut sums, mut want) = (x.clone(), x);
            reference::scatter_rows_add(&y, cols, &which, &mut want);
            scatter_rows_add(&y, cols, &which, &mut sums);
            assert_eq!(sums, want);
        }
    }
}

#[test]
fn rows_that_are_not_zero() {
    for cols in [1, 7, 16, 17, 65] {
        let mut x = vec![0.0; 6 * cols];
        x[cols - 1] = 1e-40;
        x[2 * cols] = f32::NAN;
        x[3 * cols] = -0.0;
        let mut rows = [false, false, false, false, true, false];
        let mut want = rows;
        nonzero_rows(&x, cols, &mut rows);
        reference::nonzero_rows(&x, cols, &mut want);
        // An entry that is set stays set, whatever the row's elements.
        assert_eq!((rows, want), ([true, false, true, false, true, false], rows));
    }
}

#[test]
fn rows_are_copied_inside_a_buffer() {
    let x: Vec<f32> = (0..12).map(|i| i as f32).collect();
    let copied = |from, to, n| {
        let mut x = x.clone();
        copy_rows(&mut x, 2, from, to, n);
        x.chunks_exact(2).map(|row| row[0] as usize / 2).collect::<Vec<usize>>()
    };
    assert_eq!(copied(0, 4, 2), [0, 1, 2, 3, 0, 1]);
    assert_eq!(copied(0, 1, 3), [0, 0, 1, 2, 4, 5], "overlapping");
    assert_eq!(copied(6, 0, 0), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn positions_restart_with_each_sequence() {
    let mut y = [9; 7];
    positions(3, &mut y);
    assert_eq!(y, [0, 1, 2, 0, 1, 2, 0]);
}

#[test]
#[should_panic(expected = "gather_rows: row 3, number 1 of those asked for, of 3 rows")]
fn a_missing_row_is_named() {
    gather_rows(&Pool::new(1, Isa::Portable), &[0.0; 6], 2, &[2, 3], &mut [0.0; 4]);
}

#[test]
#[should_panic(expected = "scatter_rows_add: row 3, number 0 of those asked for, of 3 rows")]
fn a_missing_row_of_the_sum_is_named() {
    scatter_rows_add(&[0.0; 2], 2, &[3], &mut [0.0; 6]);
}

#[test]
#[should_panic(expected = "copy_rows: 2 rows from 0 to 5 of 6")]
fn rows_that_do_not_fit_are_named() {
    copy_rows(&mut [0.0; 12], 2, 0, 5, 2);
}
