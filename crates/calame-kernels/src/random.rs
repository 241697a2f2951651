//! Filling arrays with random numbers; a number depends only on the key and its index.

use crate::isa::{Isa, multiversion};
use crate::math::{ln, sin_cos_turns};
use crate::philox::{BLOCK, Key, block};
use crate::pool::Pool;
use crate::split::for_rows;

/// Length of a row of numbers: the row is the counter's second word, so that the first never wraps.
const ROW: usize = 16 * 1024;
const _: () = assert!(ROW.is_multiple_of(BLOCK));

/// Fills `x` with uniform numbers in [low, high), of 24 random bits each.
pub fn fill_uniform(pool: &Pool, key: Key, low: f32, high: f32, x: &mut [f32]) {
    fill(pool, x, |isa, row, x| uniform_row(isa, key, row, low, high, x));
}

/// Fills `x` with normal numbers, by the transform of G. Box and M. Muller (1958).
pub fn fill_normal(pool: &Pool, key: Key, mean: f32, std: f32, x: &mut [f32]) {
    fill(pool, x, |isa, row, x| normal_row(isa, key, row, mean, std, x));
}

fn fill(pool: &Pool, x: &mut [f32], f: impl Fn(Isa, usize, &mut [f32]) + Sync) {
    let whole = x.len() - x.len() % ROW;
    let (rows, rest) = x.split_at_mut(whole);
    for_rows(pool, rows, ROW, |first, x| {
        x.chunks_exact_mut(ROW).enumerate().for_each(|(i, x)| f(pool.isa(), first + i, x));
    });
    f(pool.isa(), whole / ROW, rest);
}

/// A number in [0, 1) from the high 24 bits.
#[inline(always)]
fn unit(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

#[inline(always)]
fn words_of(key: Key, row: usize, index: usize) -> [[u32; 16]; 4] {
    block(index as u32, [row as u32, (row >> 32) as u32, 0], key)
}

multiversion! {
    fn uniform_row(key: Key, row: usize, low: f32, high: f32, x: &mut [f32]) = uniform_row_body;
}

#[inline(always)]
fn uniform_row_body(key: Key, row: usize, low: f32, high: f32, x: &mut [f32]) {
    for (index, x) in x.chunks_mut(BLOCK).enumerate() {
        let words = words_of(key, row, index);
        for (x, &word) in x.iter_mut().zip(words.as_flattened()) {
            *x = low + (high - low) * unit(word);
        }
    }
}

multiversion! {
    fn normal_row(key: Key, row: usize, mean: f32, std: f32, x: &mut [f32]) = normal_row_body;
}

#[inline(always)]
fn normal_row_body(key: Key, row: usize, mean: f32, std: f32, x: &mut [f32]) {
    for (index, x) in x.chunks_mut(BLOCK).enumerate() {
        let words = words_of(key, row, index);
        let words = words.as_flattened();
        let mut pairs = [[0.0f32; 2]; BLOCK / 2];
        for (i, pair) in pairs.iter_mut().enumerate() {
            // 1 − u is in (0, 1], so that its logarithm is finite.
            let radius = (-2.0 * ln(1.0 - unit(words[2 * i]))).sqrt() * std;
            let (sin, cos) = sin_cos_turns(unit(words[2 * i + 1]));
            *pair = [mean + radius * cos, mean + radius * sin];
        }
        x.copy_from_slice(&pairs.as_flattened()[..x.len()]);
    }
}
