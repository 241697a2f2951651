//! The forward pass of a model that is never in memory as a whole.

use super::attention::Attend;
use super::block::{Block, BlockSaved, ForwardScratch};
use super::dropout::Dropout;
use super::layer_norm::{LayerNorm, LayerNormSaved};
use super::params::{self, LM_HEAD, LN_F, ParamName, WPE, WTE};
use super::zeros::Zeros;
use super::{Batch, BatchSlices, ModelConfig};
use crate::ops::{self, Device, Epilogue, Phase};
use crate::tensor::{Alloc, Tensor};

/// Logits [T, V] of one sequence, nothing dropped; `read(name, parameter)` fills one parameter at a time.
///
/// At most one matrix of the vocabulary's length and one block are in memory: gpt2-xl takes some 0.5 GB.
///
/// # Errors
/// The first of `read`.
///
/// # Panics
/// If there is no token, more than the model's context, or one that is outside the vocabulary.
pub fn logits_by_parts<E>(
    dev: &Device,
    config: &ModelConfig,
    tokens: &[u32],
    mut read: impl FnMut(ParamName, &mut Tensor) -> Result<(), E>,
) -> Result<Tensor, E> {
    let n_rows = tokens.len();
    assert!(
        n_rows > 0 && n_rows <= config.n_positions,
        "logits_by_parts: {n_rows} tokens, the model's context is {}",
        config.n_positions
    );
    let mut read_present = |(name, tensor): params::TensorsMut<'_>| -> Result<(), E> {
        if tensor.is_empty() { Ok(()) } else { read(name, tensor) }
    };
    let alloc = &mut Alloc::on(dev);
    let mut batch = Batch::new(n_rows, alloc);
    batch.load(dev, BatchSlices::of_tokens(tokens, 1));
    let (mut x, mut y) = (alloc.zeros([n_rows, config.n_embd]), alloc.zeros([n_rows, config.n_embd]));

    let mut zeros = Zeros { config, base: true, alloc };
    let (mut wte, mut wpe) = (zeros.tensor(&WTE), zeros.tensor(&WPE));
    params::embeddings_mut(&mut wte, &mut wpe).into_iter().try_for_each(&mut read_present)?;
    ops::embedding_forward(dev, &batch.inputs, &batch.positions, &wte, &wpe, &mut x);
    drop(wpe);
    if !config.tied_head {
        wte = Tensor::absent();
    }

    let mut block = Block::zeros(&mut zeros);
    let mut saved = BlockSaved::new(config, 1, n_rows, zeros.alloc);
    let mut scratch = ForwardScratch::new(config, n_rows, 0, zeros.alloc);
    for i in 0..config.n_layer {
        params::block_mut(i, &mut block).try_for_each(&mut read_present)?;
        let attend = Attend::Batch { starts: None };
        block.forward(dev, i, &x, attend, &Dropout::Off, &mut y, &mut saved, &mut scratch);
        std::mem::swap(&mut x, &mut y);
    }
    drop((saved, scratch, block));

    let (mut ln_f, mut lm_head) = (LayerNorm::zeros(&mut zeros, &LN_F), zeros.tensor(&LM_HEAD));
    params::head_mut(&mut ln_f, &mut lm_head).try_for_each(&mut read_present)?;
    let alloc = zeros.alloc;
    ln_f.forward(dev, &x, &mut y, &mut LayerNormSaved::new(n_rows, alloc));
    let head = if config.tied_head { &wte } else { &lm_head };
    let (no_bias, mut logits) = (Tensor::absent(), alloc.zeros([n_rows, config.vocab_size]));
    let (phase, to) = (Phase::HeadForward, logits.view_mut());
    ops::linear_forward(dev, phase, y.view(), head, &no_bias, false, to, Epilogue::None);
    Ok(logits)
}
