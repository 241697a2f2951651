//! Causal self-attention: y = c_proj(dropout(softmax(s·q·kᵀ))·v) over heads, with q, k, v = c_attn(x) and the scale s of
//! [`AttentionScale`], 1/√HS in GPT-2.
//!
//! A. Vaswani et al., "Attention is all you need", 2017; A. Radford et al., GPT-2, 2019.

use super::adapter::AdapterScratch;
use super::dropout::{Dropout, Site};
use super::params::{ATTN_C_PROJ, ATTN_C_PROJ_BIAS, C_ATTN, C_ATTN_BIAS};
use super::zeros::Zeros;
use super::{AttentionScale, Linear, ModelConfig};
use crate::ops::{self, AttentionShape, Device, KvRows, Residual};
use crate::tensor::{Alloc, Tensor};

/// Parameters of an attention layer.
#[derive(Clone, Debug)]
pub struct Attention {
    /// [3C, C]: queries, keys, values one after another, heads one after another in each.
    pub c_attn: Linear,
    /// [C, C]: back to the residual stream.
    pub c_proj: Linear,
    /// What the scores are multiplied by.
    pub scale: AttentionScale,
}

/// What backward reads besides the layer's input.
#[derive(Debug)]
pub struct AttentionSaved {
    /// Queries, keys and values, [B·T, 3C].
    pub qkv: Tensor,
    /// The heads' outputs, [B·T, C].
    pub y: Tensor,
    /// Log-sum-exp of each row of scores, [B·NH·T].
    pub lse: Tensor,
    shape: AttentionShape,
}

/// The keys and values that the queries of a pass see.
#[derive(Debug)]
pub enum Attend<'a> {
    /// Those of the batch itself, [B, T]: training and evaluation.
    Batch {
        /// The first position that each query may see; see [`ops::attention_forward`].
        starts: Option<&'a Tensor>,
    },
    /// Those in the pages of their sequences, which the batch's own join first: inference.
    Pages {
        /// The sequence and the position of each row.
        rows: KvRows<'a>,
        /// The layer's keys, [positions of all pages, C].
        keys: &'a mut Tensor,
        /// The layer's values, [positions of all pages, C].
        values: &'a mut Tensor,
    },
}

/// Work space of backward.
#[derive(Debug)]
pub struct AttentionScratch {
    dy: Tensor,
    dqkv: Tensor,
}

impl AttentionSaved {
    /// For up to `n_sequences` sequences of `n_positions`.
    pub fn new(config: &ModelConfig, n_sequences: usize, n_positions: usize, alloc: &mut Alloc<'_>) -> AttentionSaved {
        let (n_rows, c) = (n_sequences * n_positions, config.n_embd);
        let (n_head, head_size) = (config.n_head, config.head_size());
        AttentionSaved {
            qkv: alloc.zeros([n_rows, 3 * c]),
            y: alloc.zeros([n_rows, c]),
            lse: alloc.zeros([n_rows * n_head]),
            shape: AttentionShape { n_sequences, n_positions, n_head, head_size },
        }
    }

    /// For a smaller batch.
    ///
    /// # Panics
    /// If the capacity is exceeded.
    pub fn set_batch(&mut self, n_sequences: usize, n_positions: usize) {
        let n_rows = n_sequences * n_positions;
        self.shape = AttentionShape { n_sequences, n_positions, ..self.shape };
        self.qkv.set_rows(n_rows);
        self.y.set_rows(n_rows);
        self.lse.set_rows(n_rows * self.shape.n_head);
    }
}

impl AttentionScratch {
    /// For up to `n_rows` rows of width `c`.
    pub fn new(n_rows: usize, c: usize, alloc: &mut Alloc<'_>) -> AttentionScratch {
        AttentionScratch { dy: alloc.zeros([n_rows, c]), dqkv: alloc.zeros([n_rows, 3 * c]) }
    }

    /// For a smaller batch.
    ///
    /// # Panics
    /// If the capacity is exceeded.
    pub fn set_rows(&mut self, n_rows: usize) {
        self.dy.set_rows(n_rows);
        self.dqkv.set_rows(n_rows);
    }
}

impl Attention {
    pub(super) fn zeros(zeros: &mut Zeros<'_, '_>) -> Attention {
        Attention {
            c_attn: Linear::zeros(zeros, &C_ATTN, &C_ATTN_BIAS),
            c_proj: Linear::zeros(zeros, &ATTN_C_PROJ, &ATTN_C_PROJ_BIAS),
            scale: zeros.config.attention_scale(),
        }
    }

    /// y [B·T, C]: the residual stream plus attention's result for x [B·T, C], in layer `layer`.
    ///
    /// # Panics
    /// If the sizes do not agree, or exceed the capacity of the buffers.
    pub fn forward_residual(
        &self,
        dev: &Device,
        layer: usize,
        x: &Tensor,
        attend: Attend<'_>,
        drop: &Dropout<'_>,
        residual: Residual<'_>,
        y: &mut Tensor,
        saved: &mut AttentionSaved,
        adapters: &mut AdapterScratch,
    ) {
        let AttentionSaved { qkv, y: heads, lse, shape } = saved;
        let scale = self.scale.of(layer);
        self.c_attn.forward(dev, x, qkv, adapters);
        match attend {
            Attend::Batch { starts } => {
                let mask = drop.mask(layer, Site::Attention);
                ops::attention_forward(dev, *shape, scale, qkv, starts, mask.as_ref(), heads, lse);
            }
            Attend::Pages { rows, keys, values } => {
                ops::store_kv(dev, qkv, shape.n_head, rows, keys, values);
                ops::attention_extend(dev, qkv, shape.n_head, scale, rows, keys, values, heads);
            }
        }
        self.c_proj.forward_residual(dev, heads, residual, y, adapters);
    }

    /// dx from dy, the gradient of attention's result; `grad` is added to.
    ///
    /// # Panics
    /// If the sizes do not agree, or exceed the capacity of the buffers.
    pub fn backward(
        &self,
        dev: &Device,
        layer: usize,
        dy: &Tensor,
        x: &Tensor,
        starts: Option<&Tensor>,
        drop: &Dropout<'_>,
        saved: &AttentionSaved,
        dx: &mut Tensor,
        grad: &mut Attention,
        scratch: &mut AttentionScratch,
        adapters: &mut AdapterScratch,
    ) {
        let mask = drop.mask(layer, Site::Attention);
        let AttentionSaved { qkv, y, lse, shape } = saved;
        let AttentionScratch { dy: dheads, dqkv } = scratch;
        self.c_proj.backward(dev, dy, y, dheads, &mut grad.c_proj, adapters);
        let scale = self.scale.of(layer);
        ops::attention_backward(dev, *shape, scale, dheads, qkv, starts, mask.as_ref(), y, lse, dqkv);
        self.c_attn.backward(dev, dqkv, x, dx, &mut grad.c_attn, adapters);
    }
}
