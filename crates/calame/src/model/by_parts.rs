//! The forward pass of a model that is never in memory as a whole.

use super::block::{Block, BlockSaved, BlockScratch};
use super::dropout::Dropout;
use super::gpt::{Gpt, Part};
use super::layer_norm::LayerNormSaved;
use super::{ModelConfig, params::ParamName};
use crate::ops::{self, Device};
use crate::tensor::{Rooms, Tensor};

/// Logits [T, V] of one sequence, nothing dropped; `read(name, parameter)` fills one parameter at a time.
///
/// At most one matrix of the vocabulary's length and one block are in memory: what gpt2-xl takes is some 0.5 GB.
///
/// # Errors
/// The first of `read`.
///
/// # Panics
/// If there is no token, more than the model's context, or one that the model does not have.
pub fn logits_by_parts<E>(
    dev: &Device,
    config: &ModelConfig,
    tokens: &[u32],
    mut read: impl FnMut(ParamName, &mut Tensor) -> Result<(), E>,
) -> Result<Tensor, E> {
    let n_rows = tokens.len();
    assert!(n_rows > 0 && n_rows <= config.n_positions, "logits_by_parts: {n_rows} tokens");
    let mut gpt = Gpt::zeros_with(config, Tensor::zeros([config.vocab_size, config.n_embd]), config.n_layer.min(1));
    let mut bring = |gpt: &mut Gpt, part: Part| {
        gpt.part_mut(part).filter(|(_, t)| !t.is_empty()).try_for_each(|(name, tensor)| read(name, tensor))
    };
    let row = || Tensor::zeros([n_rows, config.n_embd]);
    let (mut x, mut y) = (row(), row());

    bring(&mut gpt, Part::Embeddings)?;
    let positions: Vec<u32> = (0..n_rows as u32).collect();
    ops::embedding_forward(dev, tokens, &positions, &gpt.wte, &gpt.wpe, &mut x);
    gpt.wpe = Tensor::absent();
    if !config.tied_head {
        gpt.wte = Tensor::absent();
    }

    let rooms = &mut Rooms::Real;
    let mut saved = BlockSaved::new(config, 1, n_rows, rooms);
    let mut scratch = BlockScratch::new(n_rows, config.n_embd, rooms);
    for i in 0..config.n_layer {
        bring(&mut gpt, Part::Block(i))?;
        gpt.h[0].forward(dev, i, &x, &Dropout::Off, &mut y, &mut saved, &mut scratch);
        std::mem::swap(&mut x, &mut y);
    }
    drop((saved, scratch, std::mem::take::<Vec<Block>>(&mut gpt.h)));

    bring(&mut gpt, Part::Head)?;
    gpt.ln_f.forward(dev, &x, &mut y, &mut LayerNormSaved::new(n_rows, rooms));
    let mut logits = Tensor::zeros([n_rows, config.vocab_size]);
    ops::linear_forward(dev, &y, gpt.head(), &Tensor::absent(), &mut logits);
    Ok(logits)
}
