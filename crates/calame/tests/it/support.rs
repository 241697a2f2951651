//! Tensors as the tests read and write them.

use calame::device::Device;
use calame::model::{Gpt, ModelConfig};
use calame::ops::{self, Isa, Precision};
use calame::tensor::{Alloc, Dims, Tensor};

/// One thread without special instructions, for copies in this machine's memory.
pub fn host() -> Device {
    Device::cpu(1, Isa::Portable, Precision::F32)
}

/// The elements of a tensor in this machine's memory.
pub fn values(tensor: &Tensor) -> Vec<f32> {
    ops::read(&host(), tensor)
}

/// Lets `f` change the elements of a tensor in this machine's memory.
pub fn change(tensor: &mut Tensor, f: impl FnOnce(&mut [f32])) {
    let mut elements = values(tensor);
    f(&mut elements);
    ops::write(&host(), &elements, tensor);
}

/// Multiplies every parameter of a model by a factor: larger weights than fresh ones show mistakes that those hide.
pub fn scale(gpt: &mut Gpt, factor: f32) {
    gpt.tensors_mut().for_each(|(_, tensor)| ops::scale(&host(), factor, tensor));
}

/// A tensor of given elements.
pub fn tensor(dims: impl Into<Dims>, elements: &[f32]) -> Tensor {
    let mut tensor = Alloc::on_host().zeros(dims);
    ops::write(&host(), elements, &mut tensor);
    tensor
}

/// A model of zeros.
pub fn zeros(config: &ModelConfig) -> Gpt {
    Gpt::zeros(config, &mut Alloc::on_host())
}

/// The bits of every parameter.
pub fn bits(gpt: &Gpt) -> Vec<u32> {
    gpt.tensors().flat_map(|(_, tensor)| values(tensor)).map(f32::to_bits).collect()
}
