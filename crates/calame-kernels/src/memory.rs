//! Passes over memory without arithmetic: filling, copying, checking.

use crate::pool::Pool;
use crate::split::for_rows;

/// Elements that [`zero_nonzero`] checks and writes at a time: 4 kB, the size of a page.
const PIECE: usize = 1024;

/// Sets every element of `x` to `value`, on all threads.
pub fn fill(pool: &Pool, value: f32, x: &mut [f32]) {
    for_rows(pool, x, 1, |_, piece| piece.fill(value));
}

/// Copies x to y on all threads; y is overwritten.
///
/// # Panics
/// If the lengths differ.
pub fn copy(pool: &Pool, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "copy: lengths");
    for_rows(pool, y, 1, |first, y| y.copy_from_slice(&x[first..first + y.len()]));
}

/// Sets every element to +0, but writes only those pieces of 1024 elements that contain anything else.
///
/// Pages that have never been written share one page of zeros; they stay unwritten and take no memory.
pub fn zero_nonzero(x: &mut [f32]) {
    let pieces = x.chunks_mut(PIECE);
    pieces.filter(|piece| piece.iter().any(|x| x.to_bits() != 0)).for_each(|piece| piece.fill(0.0));
}

/// Whether no element is infinite or NaN.
pub fn all_finite(x: &[f32]) -> bool {
    const INFINITE: u32 = 0x7f80_0000;
    // The bits of the largest magnitude decide, so that the inner loop has no branches and is vectorised.
    x.chunks(4096).all(|x| x.iter().fold(0, |most, x| most.max(x.to_bits() & !(1 << 31))) < INFINITE)
}
