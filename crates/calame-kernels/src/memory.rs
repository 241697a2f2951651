//! Passes over memory that compute nothing: filling, copying, checking.

use crate::pool::Pool;
use crate::split::for_rows;

/// Elements that [`zero_nonzero`] checks and writes at a time: 4 kB, a page of memory.
const PIECE: usize = 1024;

/// Sets every element of `x` to `value`, on all threads.
pub fn fill(pool: &Pool, value: f32, x: &mut [f32]) {
    for_rows(pool, x, 1, |_, piece| piece.fill(value));
}

/// y = x, on all threads; y is overwritten.
///
/// # Panics
/// If the lengths differ.
pub fn copy(pool: &Pool, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "copy: lengths");
    for_rows(pool, y, 1, |first, y| y.copy_from_slice(&x[first..first + y.len()]));
}

/// Sets every element to +0 but writes only pieces of 1024 elements that hold anything else.
///
/// The system backs pages that have never been written by one shared page of zeros: they stay untouched and take no memory.
pub fn zero_nonzero(x: &mut [f32]) {
    let pieces = x.chunks_mut(PIECE);
    pieces.filter(|piece| piece.iter().any(|x| x.to_bits() != 0)).for_each(|piece| piece.fill(0.0));
}

/// Whether no element is infinite or NaN.
pub fn all_finite(x: &[f32]) -> bool {
    const INFINITE: u32 = 0x7f80_0000;
    // The largest magnitude's bits decide: a loop without branches, which becomes vector instructions.
    x.chunks(4096).all(|x| x.iter().fold(0, |most, x| most.max(x.to_bits() & !(1 << 31))) < INFINITE)
}
