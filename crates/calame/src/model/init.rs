//! Fresh weights, drawn as a parameter's [`ParamSpec`] says, or in the order of a PyTorch script.

use super::params::{Initial, Param, ParamSpec};
use super::{Gpt, Init, LayerNorm, Linear, ModelConfig};
use crate::ops::{self, Device};
use crate::rng::torch::Generator;
use crate::rng::{self, Purpose};
use crate::tensor::{Alloc, Tensor};

impl Gpt {
    /// A model with weights drawn from a seed as its config says.
    pub fn fresh(dev: &Device, config: &ModelConfig, seed: u64) -> Gpt {
        let mut gpt = Gpt::zeros(config, &mut Alloc::on(dev));
        for (i, (name, tensor)) in gpt.tensors_mut().enumerate() {
            let key = rng::stream(seed, Purpose::Weights, i as u64);
            let param: &'static Param = name.param;
            match ParamSpec::new(name.block, param, config).init {
                // Zeros it is already.
                Initial::Zeros => {}
                Initial::Ones => ops::fill(dev, 1.0, tensor),
                Initial::Normal { std } => ops::fill_normal(dev, key, 0.0, std, tensor),
                Initial::Uniform { bound } => ops::fill_uniform(dev, key, -bound, bound, tensor),
            }
        }
        gpt
    }

    /// A model with the weights that PyTorch draws when it builds the book's GPTModel, to the bit where its `normal_` is
    /// that of AVX2 (see [`rng::torch`]).
    ///
    /// # Panics
    /// If the config's init is not [`Init::Pytorch`], or its head is tied: the book's is a layer of its own.
    pub fn fresh_as_torch(dev: &Device, config: &ModelConfig, random: &mut Generator) -> Gpt {
        assert!(
            config.init == Init::Pytorch && !config.tied_head,
            "Gpt::fresh_as_torch: init {:?}, tied head: {}",
            config.init,
            config.tied_head
        );
        let mut gpt = Gpt::zeros(config, &mut Alloc::on(dev));
        draw(dev, &mut gpt.wte, |x| random.embedding(x));
        draw(dev, &mut gpt.wpe, |x| random.embedding(x));
        for block in &mut gpt.h {
            // W_query, W_key and W_value are layers of their own there.
            draw_linear(dev, random, &mut block.attn.c_attn, 3);
            draw_linear(dev, random, &mut block.attn.c_proj, 1);
            draw_linear(dev, random, &mut block.mlp.c_fc, 1);
            draw_linear(dev, random, &mut block.mlp.c_proj, 1);
            fill_gain(dev, &mut block.ln_1);
            fill_gain(dev, &mut block.ln_2);
        }
        fill_gain(dev, &mut gpt.ln_f);
        draw(dev, &mut gpt.lm_head, |x| random.linear_weight(x, config.n_embd));
        gpt
    }
}

/// Fills a tensor from numbers that are drawn one after another in this machine's memory.
fn draw(dev: &Device, tensor: &mut Tensor, draw: impl FnOnce(&mut [f32])) {
    let mut numbers = vec![0.0; tensor.len()];
    draw(&mut numbers);
    ops::write(dev, &numbers, tensor);
}

/// Draws a layer that PyTorch has as `n_layers` of equal size, one after another.
fn draw_linear(dev: &Device, random: &mut Generator, layer: &mut Linear, n_layers: usize) {
    let n_inputs = layer.weight.row_len();
    let n_outputs = layer.weight.n_rows() / n_layers;
    let (mut weight, mut bias) = (vec![0.0; layer.weight.len()], vec![0.0; layer.bias.len()]);
    let mut biases = bias.chunks_exact_mut(n_outputs);
    for weight in weight.chunks_exact_mut(n_outputs * n_inputs) {
        random.linear_weight(weight, n_inputs);
        if let Some(bias) = biases.next() {
            random.linear_bias(bias, n_inputs);
        }
    }
    ops::write(dev, &weight, &mut layer.weight);
    ops::write(dev, &bias, &mut layer.bias);
}

fn fill_gain(dev: &Device, norm: &mut LayerNorm) {
    ops::fill(dev, 1.0, &mut norm.weight);
}
