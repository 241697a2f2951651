//! Causal self-attention: y = c_proj(dropout(softmax(q·kᵀ/√HS))·v) over heads, with q, k, v = c_attn(x).
//!
//! A. Vaswani et al., "Attention is all you need", 2017; A. Radford et al., GPT-2, 2019.

use super::dropout::{Dropout, Site};
use super::{Linear, ModelConfig};
use crate::ops::{self, AttentionShape, Device, Residual};
use crate::tensor::{Rooms, Tensor};

/// Parameters of attention.
#[derive(Clone, Debug)]
pub struct Attention {
    /// [3C, C]: queries, keys, values one after another, heads one after another in each.
    pub c_attn: Linear,
    /// [C, C].
    pub c_proj: Linear,
}

/// What backward reads besides the layer's input.
#[derive(Debug)]
pub struct AttentionSaved {
    /// [B·T, 3C].
    pub qkv: Tensor,
    /// The heads' outputs, [B·T, C].
    pub y: Tensor,
    /// Log-sum-exp of each row of scores, [B·NH·T].
    pub lse: Tensor,
    shape: AttentionShape,
}

/// Work space.
#[derive(Debug)]
pub struct AttentionScratch {
    dy: Tensor,
    dqkv: Tensor,
}

impl AttentionSaved {
    /// For up to `n_sequences` sequences of `n_positions`.
    pub fn new(config: &ModelConfig, n_sequences: usize, n_positions: usize, rooms: &mut Rooms) -> AttentionSaved {
        let (n_rows, c) = (n_sequences * n_positions, config.n_embd);
        let (n_head, head_size) = (config.n_head, config.head_size());
        AttentionSaved {
            qkv: rooms.zeros([n_rows, 3 * c]),
            y: rooms.zeros([n_rows, c]),
            lse: rooms.zeros([n_rows * n_head]),
            shape: AttentionShape { n_sequences, n_positions, n_head, head_size },
        }
    }

    /// For a smaller batch.
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
    pub fn new(n_rows: usize, c: usize, rooms: &mut Rooms) -> AttentionScratch {
        AttentionScratch { dy: rooms.zeros([n_rows, c]), dqkv: rooms.zeros([n_rows, 3 * c]) }
    }

    /// For a smaller batch.
    pub fn set_rows(&mut self, n_rows: usize) {
        self.dy.set_rows(n_rows);
        self.dqkv.set_rows(n_rows);
    }
}

impl Attention {
    /// Zeros of width `c`.
    pub fn zeros(c: usize, qkv_bias: bool) -> Attention {
        Attention { c_attn: Linear::zeros(c, 3 * c, qkv_bias), c_proj: Linear::zeros(c, c, true) }
    }

    /// y [B·T, C]: the residual stream plus attention's result for x [B·T, C], in layer `layer`.
    pub fn forward_residual(
        &self,
        dev: &Device,
        layer: usize,
        x: &Tensor,
        drop: &Dropout<'_>,
        residual: Residual<'_>,
        y: &mut Tensor,
        saved: &mut AttentionSaved,
    ) {
        let keep = drop.keep(layer, Site::Attention);
        self.c_attn.forward(dev, x, &mut saved.qkv);
        ops::attention_forward(dev, saved.shape, &saved.qkv, keep.as_ref(), &mut saved.y, &mut saved.lse);
        self.c_proj.forward_residual(dev, &saved.y, residual, y);
    }

    /// dx from dy, the gradient of attention's result; `grad` is added to.
    pub fn backward(
        &self,
        dev: &Device,
        layer: usize,
        dy: &Tensor,
        x: &Tensor,
        drop: &Dropout<'_>,
        saved: &AttentionSaved,
        dx: &mut Tensor,
        grad: &mut Attention,
        scratch: &mut AttentionScratch,
    ) {
        let keep = drop.keep(layer, Site::Attention);
        let AttentionSaved { qkv, y, lse, shape } = saved;
        self.c_proj.backward(dev, dy, y, &mut scratch.dy, &mut grad.c_proj);
        ops::attention_backward(dev, *shape, &scratch.dy, qkv, keep.as_ref(), y, lse, &mut scratch.dqkv);
        self.c_attn.backward(dev, &scratch.dqkv, x, dx, &mut grad.c_attn);
    }
}
