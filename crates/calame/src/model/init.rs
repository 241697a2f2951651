//! Fresh weights.

use super::params::Kind;
use super::{Gpt, Init, LayerNorm, Linear, ModelConfig};
use crate::ops::{self, Device};
use crate::rng::torch::Generator;
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

    /// A model with the weights that PyTorch draws when it builds the book's GPTModel, to the bit where its `normal_` is
    /// that of AVX2 (see [`rng::torch`]).
    ///
    /// # Panics
    /// If the config's init is not [`Init::Pytorch`], or its head is tied: the book's is a layer of its own.
    pub fn fresh_as_torch(config: &ModelConfig, random: &mut Generator) -> Gpt {
        assert!(
            config.init == Init::Pytorch && !config.tied_head,
            "Gpt::fresh_as_torch: init {:?}, tied head: {}",
            config.init,
            config.tied_head
        );
        let mut gpt = Gpt::zeros(config);
        random.embedding(gpt.wte.as_mut_slice());
        random.embedding(gpt.wpe.as_mut_slice());
        for block in &mut gpt.h {
            // W_query, W_key and W_value are layers of their own there.
            draw_linear(random, &mut block.attn.c_attn, 3);
            draw_linear(random, &mut block.attn.c_proj, 1);
            draw_linear(random, &mut block.mlp.c_fc, 1);
            draw_linear(random, &mut block.mlp.c_proj, 1);
            one(&mut block.ln_1);
            one(&mut block.ln_2);
        }
        one(&mut gpt.ln_f);
        random.linear_weight(gpt.lm_head.as_mut_slice(), config.n_embd);
        gpt
    }
}

/// Draws a layer that PyTorch has as `n_layers` of equal size, one after another.
fn draw_linear(random: &mut Generator, layer: &mut Linear, n_layers: usize) {
    let n_inputs = layer.weight.row_len();
    let n_outputs = layer.weight.n_rows() / n_layers;
    let (weight, bias) = (layer.weight.as_mut_slice(), layer.bias.as_mut_slice());
    let mut biases = bias.chunks_exact_mut(n_outputs);
    for weight in weight.chunks_exact_mut(n_outputs * n_inputs) {
        random.linear_weight(weight, n_inputs);
        if let Some(bias) = biases.next() {
            random.linear_bias(bias, n_inputs);
        }
    }
}

fn one(norm: &mut LayerNorm) {
    norm.weight.as_mut_slice().fill(1.0);
}

fn uniform(dev: &Device, key: rng::Key, n_inputs: usize, tensor: &mut Tensor) {
    let bound = 1.0 / (n_inputs as f32).sqrt();
    ops::fill_uniform(dev, key, -bound, bound, tensor);
}
