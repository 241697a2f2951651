//! Copies, fills, random numbers, and transfers between a device and this machine's memory.

use calame_kernels::Key;

use super::{Device, Phase, Work};
use crate::tensor::Tensor;

/// Copies f32 from this machine's memory into a tensor, which has as many elements.
pub fn write(dev: &Device, from: &[f32], to: &mut Tensor) {
    assert_eq!(from.len(), to.len(), "ops::write: elements for {to:?}");
    dev.run(Phase::Memory, Work::passes(2 * from.len()), |on| on.write(from, to));
}

/// Copies ids from this machine's memory into a tensor, which has as many elements.
pub fn write_ids(dev: &Device, from: &[u32], to: &mut Tensor) {
    assert_eq!(from.len(), to.len(), "ops::write_ids: elements for {to:?}");
    dev.run(Phase::Memory, Work::passes(2 * from.len()), |on| on.write_ids(from, to));
}

/// The elements of an f32 tensor, copied into this machine's memory.
pub fn read(dev: &Device, from: &Tensor) -> Vec<f32> {
    let mut to = vec![0.0; from.len()];
    read_into(dev, from, &mut to);
    to
}

/// Copies the elements of an f32 tensor into `to`, which has as many.
pub fn read_into(dev: &Device, from: &Tensor, to: &mut [f32]) {
    assert_eq!(from.len(), to.len(), "ops::read_into: elements of {from:?}");
    dev.run(Phase::Memory, Work::passes(2 * to.len()), |on| on.read(from, to));
}

/// Copies an f32 tensor of the device to one in this machine's memory, which has as many elements.
pub fn read_to_host(dev: &Device, from: &Tensor, to: &mut Tensor) {
    read_into(dev, from, to.host_mut());
}

/// y = x, both f32 or both ids.
pub fn copy(dev: &Device, x: &Tensor, y: &mut Tensor) {
    dev.run(Phase::Memory, Work::passes(2 * x.len()), |on| on.copy(x, y));
}

/// y = x in f32, for an x of any number format.
pub fn dequantize(dev: &Device, x: &Tensor, y: &mut Tensor) {
    dev.run(Phase::Memory, Work::passes(2 * x.len()), |on| on.dequantize(x, y));
}

/// x = value, written to every element, also of memory that is zero already.
pub fn fill(dev: &Device, value: f32, x: &mut Tensor) {
    dev.run(Phase::Memory, Work::passes(x.len()), |on| on.fill(value, x));
}

/// x = 0. What is zero already is only read, so that rows that were never touched still take no memory.
pub fn zero(dev: &Device, x: &mut Tensor) {
    dev.run(Phase::Memory, Work::passes(x.len()), |on| on.zero(x));
}

/// x ← alpha·x.
pub fn scale(dev: &Device, alpha: f32, x: &mut Tensor) {
    dev.run(Phase::Memory, Work::passes(2 * x.len()), |on| on.scale(alpha, x));
}

/// y += alpha·x.
pub fn add_scaled(dev: &Device, alpha: f32, x: &Tensor, y: &mut Tensor) {
    dev.run(Phase::Memory, Work::passes(3 * x.len()), |on| on.add_scaled(alpha, x, y));
}

/// Uniform random numbers in [low, high).
pub fn fill_uniform(dev: &Device, key: Key, low: f32, high: f32, x: &mut Tensor) {
    dev.run(Phase::Memory, Work::passes(x.len()), |on| on.fill_uniform(key, low, high, x));
}

/// Normal random numbers.
pub fn fill_normal(dev: &Device, key: Key, mean: f32, std: f32, x: &mut Tensor) {
    dev.run(Phase::Memory, Work::passes(x.len()), |on| on.fill_normal(key, mean, std, x));
}

/// ids\[i\] = i mod n: the positions of sequences of n tokens.
pub fn fill_positions(dev: &Device, n: usize, ids: &mut Tensor) {
    dev.run(Phase::Memory, Work::passes(ids.len()), |on| on.fill_positions(n, ids));
}

/// Copies rows `from..from + n_rows` of a tensor to its rows `to..`.
pub fn copy_rows(dev: &Device, x: &mut Tensor, from: usize, to: usize, n_rows: usize) {
    dev.run(Phase::Memory, Work::passes(2 * n_rows * x.row_len()), |on| on.copy_rows(x, from, to, n_rows));
}
