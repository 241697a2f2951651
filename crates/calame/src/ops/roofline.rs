//! What the device can do at most: loops that only multiply, only read, only update. Whoever has a clock times them.

use calame_kernels::{self as kernels, Precision};

use super::Device;
use crate::tensor::Tensor;

/// Multiplies and adds in registers on every thread, `rounds` times; returns the number of operations.
pub fn multiply_in_registers(dev: &Device, precision: Precision, rounds: usize) -> f64 {
    kernels::multiply_in_registers(&dev.pool, precision, rounds)
}

/// Reads x once; returns the sum of its elements.
pub fn read_memory(dev: &Device, x: &Tensor) -> f32 {
    kernels::read_memory(&dev.pool, x.as_slice())
}

/// Reads and writes x once: x ← factor·x.
pub fn update_memory(dev: &Device, factor: f32, x: &mut Tensor) {
    kernels::update_memory(&dev.pool, factor, x.as_mut_slice());
}
