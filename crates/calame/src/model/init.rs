//! Fresh weights.

use super::params::Kind;
use super::{Gpt, Init, ModelConfig};
use crate::ops::{self, Device};
use crate::rng::{self, Purpose};
use crate::tensor::Tensor;

impl Gpt {
    /// A model with weights drawn from a seed as its config says.
    pub fn fresh(dev: &Device, config: &ModelConfig, seed: u64) -> Gpt {
        let mut gpt = Gpt::zeros(config);
        let residual = 0.02 / (2.0 * config.n_layer as f32).sqrt();
        for (i, (name, tensor)) in gpt.tensors_mut().enumerate() {
            let key = rng::stream(seed, Purpose::Weights, i as u64);
            match (name.kind(), config.init) {
                (Kind::Gain, _) => tensor.as_mut_slice().fill(1.0),
                (Kind::Shift, _) | (Kind::Bias, Init::Gpt2) => tensor.as_mut_slice().fill(0.0),
                (Kind::Embedding, Init::Pytorch) => ops::fill_normal(dev, key, 0.0, 1.0, tensor),
                (Kind::Embedding | Kind::Matrix, Init::Gpt2) => ops::fill_normal(dev, key, 0.0, 0.02, tensor),
                (Kind::ResidualMatrix, Init::Gpt2) => ops::fill_normal(dev, key, 0.0, residual, tensor),
                (Kind::Matrix | Kind::ResidualMatrix, Init::Pytorch) => {
                    uniform(dev, key, tensor.row_len(), tensor);
                }
                (Kind::Bias, Init::Pytorch) => {
                    // Of a linear layer's bias the bound is that of its weight, whose width the path tells.
                    let wide = name.path == "mlp.c_proj.bias";
                    uniform(dev, key, if wide { 4 * config.n_embd } else { config.n_embd }, tensor);
                }
            }
        }
        gpt
    }
}

fn uniform(dev: &Device, key: rng::Key, n_inputs: usize, tensor: &mut Tensor) {
    let bound = 1.0 / (n_inputs as f32).sqrt();
    ops::fill_uniform(dev, key, -bound, bound, tensor);
}
