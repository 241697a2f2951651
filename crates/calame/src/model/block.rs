//! A block: x = x + dropout(attn(ln_1(x))), then x = x + dropout(mlp(ln_2(x))).
//!
//! The outputs of layer normalisation and activation are not saved for backward but computed again from what is (6 of 16
//! activations a block: 226 MB at batch 4 × 256 of the 163M model). Forward therefore takes `scratch` too: they need a
//! buffer that no block owns.

use super::adapter::AdapterScratch;
use super::attention::{Attend, Attention, AttentionSaved, AttentionScratch};
use super::dropout::{Dropout, Site};
use super::layer_norm::{LayerNorm, LayerNormSaved};
use super::mlp::{Mlp, MlpSaved};
use super::params::{LN_1, LN_2};
use super::zeros::Zeros;
use super::{Linear, ModelConfig};
use crate::ops::{self, Device, Residual};
use crate::tensor::{Alloc, Tensor};

/// Parameters of one block.
#[derive(Clone, Debug)]
pub struct Block {
    /// The normalisation before attention.
    pub ln_1: LayerNorm,
    /// The first branch: causal self-attention.
    pub attn: Attention,
    /// The normalisation before the MLP.
    pub ln_2: LayerNorm,
    /// The second branch: two linear layers with an activation between them.
    pub mlp: Mlp,
}

/// What backward reads besides the block's input.
#[derive(Debug)]
pub struct BlockSaved {
    ln_1: LayerNormSaved,
    attn: AttentionSaved,
    /// The residual stream between the two halves, [B·T, C].
    middle: Tensor,
    ln_2: LayerNormSaved,
    mlp: MlpSaved,
    n_positions: usize,
}

/// Work space of forward, for one block at a time.
#[derive(Debug)]
pub struct ForwardScratch {
    /// The output of a layer normalisation, [R, C].
    pub(super) normed: Tensor,
    /// The activation of the MLP's inner layer, [R, I].
    inner: Tensor,
    adapters: AdapterScratch,
}

/// Work space of forward and backward, for one block at a time.
#[derive(Debug)]
pub struct BlockScratch {
    pub(super) forward: ForwardScratch,
    /// The gradient of a branch's output, [R, C].
    dbranch: Tensor,
    dnormed: Tensor,
    attn: AttentionScratch,
    /// The gradient of the MLP's inner layer, [R, I].
    dfc: Tensor,
}

impl ForwardScratch {
    /// For up to `n_rows` rows, and adapters of up to `rank`.
    pub fn new(config: &ModelConfig, n_rows: usize, rank: usize, alloc: &mut Alloc<'_>) -> ForwardScratch {
        ForwardScratch {
            normed: alloc.zeros([n_rows, config.n_embd]),
            inner: alloc.zeros([n_rows, config.inner_size()]),
            adapters: AdapterScratch::new(n_rows, rank, alloc),
        }
    }

    /// The work space of adapters.
    pub(super) fn adapters(&mut self) -> &mut AdapterScratch {
        &mut self.adapters
    }

    /// For a smaller batch.
    ///
    /// # Panics
    /// If the capacity is exceeded.
    pub fn set_rows(&mut self, n_rows: usize) {
        self.normed.set_rows(n_rows);
        self.inner.set_rows(n_rows);
    }
}

impl BlockSaved {
    /// For up to `n_sequences` sequences of `n_positions`.
    pub fn new(config: &ModelConfig, n_sequences: usize, n_positions: usize, alloc: &mut Alloc<'_>) -> BlockSaved {
        let n_rows = n_sequences * n_positions;
        BlockSaved {
            ln_1: LayerNormSaved::new(n_rows, alloc),
            attn: AttentionSaved::new(config, n_sequences, n_positions, alloc),
            middle: alloc.zeros([n_rows, config.n_embd]),
            ln_2: LayerNormSaved::new(n_rows, alloc),
            mlp: MlpSaved::new(config, n_rows, alloc),
            n_positions,
        }
    }

    /// For a smaller batch.
    ///
    /// # Panics
    /// If the capacity is exceeded.
    pub fn set_batch(&mut self, n_sequences: usize, n_positions: usize) {
        let n_rows = n_sequences * n_positions;
        self.ln_1.set_rows(n_rows);
        self.attn.set_batch(n_sequences, n_positions);
        self.middle.set_rows(n_rows);
        self.ln_2.set_rows(n_rows);
        self.mlp.set_rows(n_rows);
        self.n_positions = n_positions;
    }
}

impl BlockScratch {
    /// For up to `n_rows` rows, and adapters of up to `rank`.
    pub fn new(config: &ModelConfig, n_rows: usize, rank: usize, alloc: &mut Alloc<'_>) -> BlockScratch {
        let c = config.n_embd;
        BlockScratch {
            forward: ForwardScratch::new(config, n_rows, rank, alloc),
            dbranch: alloc.zeros([n_rows, c]),
            dnormed: alloc.zeros([n_rows, c]),
            attn: AttentionScratch::new(n_rows, c, alloc),
            dfc: alloc.zeros([n_rows, config.inner_size()]),
        }
    }

    /// For a smaller batch.
    ///
    /// # Panics
    /// If the capacity is exceeded.
    pub fn set_rows(&mut self, n_rows: usize) {
        self.forward.set_rows(n_rows);
        self.dbranch.set_rows(n_rows);
        self.dnormed.set_rows(n_rows);
        self.attn.set_rows(n_rows);
        self.dfc.set_rows(n_rows);
    }
}

impl Block {
    pub(super) fn zeros(zeros: &mut Zeros<'_, '_>) -> Block {
        Block {
            ln_1: LayerNorm::zeros(zeros, &LN_1),
            attn: Attention::zeros(zeros),
            ln_2: LayerNorm::zeros(zeros, &LN_2),
            mlp: Mlp::zeros(zeros),
        }
    }

    /// Its linear layers, in the order of the visitor.
    pub fn linears(&self) -> [&Linear; 4] {
        [&self.attn.c_attn, &self.attn.c_proj, &self.mlp.c_fc, &self.mlp.c_proj]
    }

    /// Its linear layers, to change: to give them adapters.
    pub fn linears_mut(&mut self) -> [&mut Linear; 4] {
        [&mut self.attn.c_attn, &mut self.attn.c_proj, &mut self.mlp.c_fc, &mut self.mlp.c_proj]
    }

    /// Whether the adapters of both blocks have the same ranks, columns and scales.
    pub(super) fn has_adapters_like(&self, other: &Block) -> bool {
        self.linears().into_iter().zip(other.linears()).all(|(a, b)| a.has_adapters_like(b))
    }

    /// Gives this block, of gradients or moments, zeros for every adapter of `block`.
    pub(super) fn mirror_adapters(&mut self, block: &Block, alloc: &mut Alloc<'_>) {
        for (to, from) in self.linears_mut().into_iter().zip(block.linears()) {
            to.mirror_adapters(from, alloc);
        }
    }

    /// y [R, C] from x [R, C], in layer `layer`: the same two statements in training, evaluation and inference.
    ///
    /// # Panics
    /// If the sizes do not agree, or exceed the capacity of the buffers.
    pub fn forward(
        &self,
        dev: &Device,
        layer: usize,
        x: &Tensor,
        attend: Attend<'_>,
        drop: &Dropout<'_>,
        y: &mut Tensor,
        saved: &mut BlockSaved,
        scratch: &mut ForwardScratch,
    ) {
        let ForwardScratch { normed, inner, adapters } = scratch;
        let BlockSaved { ln_1, attn, middle, ln_2, mlp: saved_mlp, n_positions } = saved;
        let mask = drop.mask(layer, Site::AttentionBranch);
        let stream = Residual { x, mask: mask.as_ref(), rows_per_sequence: *n_positions };
        self.ln_1.forward(dev, x, normed, ln_1);
        self.attn.forward_residual(dev, layer, normed, attend, drop, stream, middle, attn, adapters);

        let mask = drop.mask(layer, Site::MlpBranch);
        let stream = Residual { x: middle, mask: mask.as_ref(), rows_per_sequence: *n_positions };
        self.ln_2.forward(dev, middle, normed, ln_2);
        self.mlp.forward_residual(dev, normed, stream, y, saved_mlp, inner, adapters);
    }

    /// `dx` holds dy and becomes dx: the residual stream's gradient is added to; so is `grad`.
    ///
    /// # Panics
    /// If the sizes do not agree, or exceed the capacity of the buffers.
    pub fn backward_add(
        &self,
        dev: &Device,
        layer: usize,
        dx: &mut Tensor,
        x: &Tensor,
        starts: Option<&Tensor>,
        drop: &Dropout<'_>,
        saved: &BlockSaved,
        grad: &mut Block,
        scratch: &mut BlockScratch,
    ) {
        let t = saved.n_positions;
        let BlockScratch { forward, dbranch: dropped_dy, dnormed, attn, dfc } = scratch;
        let ForwardScratch { normed, inner, adapters } = forward;
        self.ln_2.forward_again(dev, &saved.middle, &saved.ln_2, normed);
        let dbranch = dropped(dev, dx, drop, layer, Site::MlpBranch, t, dropped_dy);
        self.mlp.backward(dev, dbranch, normed, &saved.mlp, dnormed, &mut grad.mlp, inner, dfc, adapters);
        self.ln_2.backward_add(dev, dnormed, &saved.middle, &saved.ln_2, dx, &mut grad.ln_2);

        self.ln_1.forward_again(dev, x, &saved.ln_1, normed);
        let dbranch = dropped(dev, dx, drop, layer, Site::AttentionBranch, t, dropped_dy);
        let (saved_attn, grad_attn) = (&saved.attn, &mut grad.attn);
        self.attn.backward(dev, layer, dbranch, normed, starts, drop, saved_attn, dnormed, grad_attn, attn, adapters);
        self.ln_1.backward_add(dev, dnormed, x, &saved.ln_1, dx, &mut grad.ln_1);
    }
}

/// dy behind a branch's dropout: computed in `dropped_dy`, or dy itself where nothing is dropped.
fn dropped<'a>(
    dev: &Device,
    dy: &'a Tensor,
    drop: &Dropout<'_>,
    layer: usize,
    site: Site,
    n_positions: usize,
    dropped_dy: &'a mut Tensor,
) -> &'a Tensor {
    match drop.mask(layer, site) {
        None => dy,
        Some(mask) => {
            ops::drop_elements(dev, dy, &mask, n_positions, dropped_dy);
            dropped_dy
        }
    }
}
