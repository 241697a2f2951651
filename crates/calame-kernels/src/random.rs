//! Filling tensors with random numbers, any element from its place alone.

use crate::philox::{BLOCK, Key, block};
use crate::pool::Pool;
use crate::split::for_rows;

/// Uniform numbers in [low, high): 24 random bits each. `x` is overwritten.
pub fn fill_uniform(pool: &Pool, key: Key, low: f32, high: f32, x: &mut [f32]) {
    fill(pool, key, x, |words, x| {
        let words = words.as_flattened();
        for (x, &word) in x.iter_mut().zip(words) {
            *x = low + (high - low) * unit(word);
        }
    });
}

/// Normal numbers by G. Box and M. Muller's transform (1958). `x` is overwritten.
pub fn fill_normal(pool: &Pool, key: Key, mean: f32, std: f32, x: &mut [f32]) {
    fill(pool, key, x, |words, x| {
        let words = words.as_flattened();
        for (pair, x) in words.chunks_exact(2).zip(x.chunks_mut(2)) {
            let radius = (-2.0 * (1.0 - unit(pair[0])).ln()).sqrt() * std;
            let (sin, cos) = (std::f32::consts::TAU * unit(pair[1])).sin_cos();
            x[0] = mean + radius * cos;
            if let Some(x) = x.get_mut(1) {
                *x = mean + radius * sin;
            }
        }
    });
}

/// [0, 1) from the high 24 bits.
fn unit(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

fn fill(pool: &Pool, key: Key, x: &mut [f32], f: impl Fn(&[[u32; 16]; 4], &mut [f32]) + Sync) {
    /// Numbers under one value of the counter's second word, so that the first never wraps.
    const ROW: usize = 16 * 1024;
    const { assert!(ROW.is_multiple_of(BLOCK)) };
    let whole = x.len() - x.len() % ROW;
    let (rows, rest) = x.split_at_mut(whole);
    let fill_row = |row: usize, x: &mut [f32]| {
        for (index, x) in x.chunks_mut(BLOCK).enumerate() {
            f(&block(index as u32, [row as u32, (row >> 32) as u32, 0], key), x);
        }
    };
    for_rows(pool, rows, ROW, |first, x| {
        x.chunks_exact_mut(ROW).enumerate().for_each(|(i, x)| fill_row(first + i, x));
    });
    fill_row(whole / ROW, rest);
}
