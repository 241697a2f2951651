//! Copies, fills, random numbers, and transfers between a device and this machine's memory.

use calame_kernels::Key;

use super::{Device, Phase, Work};
use crate::tensor::{ElementFormat, Tensor};

/// Copies f32 from this machine's memory into a tensor, which has as many elements.
///
/// # Panics
/// If `from` has another number of elements, or `to` is not an f32 tensor of the device.
pub fn write(dev: &Device, from: &[f32], to: &mut Tensor) {
    assert!(from.len() == to.len(), "ops::write: {} elements for {to:?}", from.len());
    dev.run(Phase::Memory, Work::passes(2 * from.len()), |on| on.write(from, to));
}

/// Copies numbers from this machine's memory into a tensor of their number format: the bytes of its elements as a file
/// stores them, little-endian and in whole blocks.
///
/// # Panics
/// If the bytes are not those of as many elements, or the tensor holds ids or is not on the device.
pub fn write_raw(dev: &Device, from: &[u8], to: &mut Tensor) {
    let expected = to.format().map(|format| ElementFormat::Number(format).n_bytes(to.len() as u64));
    assert!(
        expected.is_none_or(|expected| expected == from.len() as u64),
        "ops::write_raw: {} bytes for {to:?}, expected {expected:?}",
        from.len()
    );
    dev.run(Phase::Memory, Work::passes(from.len() / 2), |on| on.write_raw(from, to));
}

/// Copies ids from this machine's memory into a tensor, which has as many elements.
///
/// # Panics
/// If `from` has another number of elements, or `to` is not a tensor of ids of the device.
pub fn write_ids(dev: &Device, from: &[u32], to: &mut Tensor) {
    assert!(from.len() == to.len(), "ops::write_ids: {} ids for {to:?}", from.len());
    dev.run(Phase::Memory, Work::passes(2 * from.len()), |on| on.write_ids(from, to));
}

/// The elements of an f32 tensor, copied into this machine's memory.
///
/// # Panics
/// If `from` is not an f32 tensor of the device.
pub fn read(dev: &Device, from: &Tensor) -> Vec<f32> {
    let mut to = vec![0.0; from.len()];
    read_into(dev, from, &mut to);
    to
}

/// Copies the elements of an f32 tensor into `to`, which has as many.
///
/// # Panics
/// If `to` has another number of elements, or `from` is not an f32 tensor of the device.
pub fn read_into(dev: &Device, from: &Tensor, to: &mut [f32]) {
    assert!(from.len() == to.len(), "ops::read_into: {from:?} into {} elements", to.len());
    dev.run(Phase::Memory, Work::passes(2 * to.len()), |on| on.read(from, to));
}

/// Copies an f32 tensor of the device to one in this machine's memory, which has as many elements.
///
/// # Panics
/// If the sizes do not agree, `from` is not an f32 tensor of the device, or `to` not one in this machine's memory.
pub fn read_to_host(dev: &Device, from: &Tensor, to: &mut Tensor) {
    read_into(dev, from, to.host_mut());
}

/// Copies an f32 tensor in this machine's memory to one of the device, which has as many elements.
pub fn write_from_host(dev: &Device, from: &Tensor, to: &mut Tensor) {
    write(dev, from.host(), to);
}

/// y = x, both f32 or both ids.
///
/// # Panics
/// If the sizes or the formats do not agree, or a tensor is not on the device.
pub fn copy(dev: &Device, x: &Tensor, y: &mut Tensor) {
    dev.run(Phase::Memory, Work::passes(2 * x.len()), |on| on.copy(x, y));
}

/// y = x in f32, for an x of any number format.
///
/// # Panics
/// If the sizes do not agree, x holds ids, or a tensor is not on the device.
pub fn dequantize(dev: &Device, x: &Tensor, y: &mut Tensor) {
    dev.run(Phase::Memory, Work::passes(2 * x.len()), |on| on.dequantize(x, y));
}

/// x = value, written to every element, also of memory that is zero already.
///
/// # Panics
/// If the tensor is not on the device.
pub fn fill(dev: &Device, value: f32, x: &mut Tensor) {
    dev.run(Phase::Memory, Work::passes(x.len()), |on| on.fill(value, x));
}

/// x = 0. What is zero already is only read, so that rows that were never touched still take no memory.
///
/// # Panics
/// If the tensor is not on the device.
pub fn zero(dev: &Device, x: &mut Tensor) {
    dev.run(Phase::Memory, Work::passes(x.len()), |on| on.zero(x));
}

/// x ← alpha·x, element by element.
///
/// # Panics
/// If the tensor is not on the device.
pub fn scale(dev: &Device, alpha: f32, x: &mut Tensor) {
    dev.run(Phase::Memory, Work::passes(2 * x.len()), |on| on.scale(alpha, x));
}

/// y += alpha·x, element by element.
///
/// # Panics
/// If the sizes do not agree, or a tensor is not on the device.
pub fn add_scaled(dev: &Device, alpha: f32, x: &Tensor, y: &mut Tensor) {
    dev.run(Phase::Memory, Work::passes(3 * x.len()), |on| on.add_scaled(alpha, x, y));
}

/// Uniform random numbers in [low, high).
///
/// # Panics
/// If the tensor is not on the device.
pub fn fill_uniform(dev: &Device, key: Key, low: f32, high: f32, x: &mut Tensor) {
    dev.run(Phase::Memory, Work::passes(x.len()), |on| on.fill_uniform(key, low, high, x));
}

/// Normal random numbers of the given mean and standard deviation.
///
/// # Panics
/// If the tensor is not on the device.
pub fn fill_normal(dev: &Device, key: Key, mean: f32, std: f32, x: &mut Tensor) {
    dev.run(Phase::Memory, Work::passes(x.len()), |on| on.fill_normal(key, mean, std, x));
}

/// ids\[i\] = i mod n: the positions of sequences of n tokens.
///
/// # Panics
/// If n is 0, or the tensor does not hold ids on the device.
pub fn fill_positions(dev: &Device, n: usize, ids: &mut Tensor) {
    dev.run(Phase::Memory, Work::passes(ids.len()), |on| on.fill_positions(n, ids));
}

/// Copies rows `from..from + n_rows` of a tensor to its rows `to..`.
///
/// # Panics
/// If a row is outside the tensor, or the tensor is not on the device.
pub fn copy_rows(dev: &Device, x: &mut Tensor, from: usize, to: usize, n_rows: usize) {
    dev.run(Phase::Memory, Work::passes(2 * n_rows * x.row_len()), |on| on.copy_rows(x, from, to, n_rows));
}
