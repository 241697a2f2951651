//! What a head attends to: its weights, which the fast passes never store.

use super::attention::Attend;
use super::block::{BlockSaved, ForwardScratch};
use super::dropout::Dropout;
use super::layer_norm::LayerNormSaved;
use super::{Batch, BatchSlices, Gpt};
use crate::ops::{self, Device};
use crate::tensor::Alloc;

impl Gpt {
    /// The attention weights [T, T] of a head for one sequence: row t has the weights with which position t reads the
    /// positions up to itself, which sum to 1; the others are 0. Nothing is dropped.
    ///
    /// # Panics
    /// If there is no token, more than the model's context, or one outside the vocabulary; if there is no such layer or head.
    pub fn attention_weights(&self, dev: &Device, tokens: &[u32], layer: usize, head: usize) -> Vec<f64> {
        let (config, t) = (&self.config, tokens.len());
        assert!(
            t > 0 && t <= config.n_positions && layer < config.n_layer && head < config.n_head,
            "Gpt::attention_weights: {t} tokens, layer {layer} of {}, head {head} of {}",
            config.n_layer,
            config.n_head
        );
        let alloc = &mut Alloc::on(dev);
        let mut batch = Batch::new(t, alloc);
        batch.load(dev, BatchSlices::of_tokens(tokens, 1));
        let (mut x, mut y) = (alloc.zeros([t, config.n_embd]), alloc.zeros([t, config.n_embd]));
        let mut saved = BlockSaved::new(config, 1, t, alloc);
        let mut scratch = ForwardScratch::new(config, t, self.rank(), alloc);
        ops::embedding_forward(dev, &batch.inputs, &batch.positions, &self.wte, &self.wpe, &mut x);
        for (i, block) in self.h[..layer].iter().enumerate() {
            let attend = Attend::Batch { starts: None };
            block.forward(dev, i, &x, attend, &Dropout::Off, &mut y, &mut saved, &mut scratch);
            std::mem::swap(&mut x, &mut y);
        }
        let block = &self.h[layer];
        let (mut ln_saved, mut qkv) = (LayerNormSaved::new(t, alloc), alloc.zeros([t, 3 * config.n_embd]));
        block.ln_1.forward(dev, &x, &mut y, &mut ln_saved);
        block.attn.c_attn.forward(dev, &y, &mut qkv, scratch.adapters());
        weights(&ops::read(dev, &qkv), t, config.n_embd, head * config.head_size(), config.head_size(), {
            f64::from(block.attn.scale.of(layer))
        })
    }
}

/// Softmax of the scaled scores of queries and keys, which are `size` channels from `first` on.
fn weights(qkv: &[f32], t: usize, channels: usize, first: usize, size: usize, scale: f64) -> Vec<f64> {
    let row = |position: usize, part: usize| &qkv[(3 * position + part) * channels + first..][..size];
    let mut all = vec![0.0; t * t];
    for (query, out) in all.chunks_exact_mut(t).enumerate() {
        let score = |key: usize| -> f64 {
            scale * row(query, 0).iter().zip(row(key, 1)).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>()
        };
        let scores: Vec<f64> = (0..=query).map(score).collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|score| (score - max).exp()).sum();
        out.iter_mut().zip(scores).for_each(|(out, score)| *out = (score - max).exp() / sum);
    }
    all
}
