//! What the processor can do at most: loops that only multiply, only read, only update. A caller with a clock times them.

use calame_kernels::{self as kernels, Precision};

use super::Device;
use crate::tensor::Tensor;

/// Multiplies and adds in registers on every thread, `rounds` times; returns the number of operations.
///
/// # Panics
/// If the device is not a processor, as all of this module.
pub fn multiply_in_registers(dev: &Device, precision: Precision, rounds: usize) -> f64 {
    kernels::multiply_in_registers(pool(dev), precision, rounds)
}

/// Reads x once; returns the sum of its elements.
pub fn read_memory(dev: &Device, x: &Tensor) -> f32 {
    kernels::read_memory(pool(dev), x.host())
}

/// Reads and writes x once: x ← factor·x.
pub fn update_memory(dev: &Device, factor: f32, x: &mut Tensor) {
    kernels::update_memory(pool(dev), factor, x.host_mut());
}

fn pool(dev: &Device) -> &kernels::Pool {
    match dev {
        Device::Cpu(cpu) => &cpu.pool,
        Device::Gpu(_) => panic!("roofline: {dev:?} is no processor"),
    }
}
