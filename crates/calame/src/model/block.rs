//! A block: x = x + dropout(attn(ln_1(x))), then x = x + dropout(mlp(ln_2(x))).

use super::ModelConfig;
use super::attention::{Attention, AttentionSaved, AttentionScratch};
use super::dropout::{Dropout, Site};
use super::layer_norm::{LayerNorm, LayerNormSaved};
use super::mlp::{Mlp, MlpSaved, MlpScratch};
use crate::ops::{self, Device, Residual};
use crate::tensor::{Rooms, Tensor};

/// Parameters of a block.
#[derive(Clone, Debug)]
pub struct Block {
    /// Before attention.
    pub ln_1: LayerNorm,
    /// Attention.
    pub attn: Attention,
    /// Before the MLP.
    pub ln_2: LayerNorm,
    /// The MLP.
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

/// Work space.
#[derive(Debug)]
pub struct BlockScratch {
    /// A layer normalisation's output, [B·T, C].
    normed: Tensor,
    /// The gradient of a branch's output.
    dbranch: Tensor,
    dnormed: Tensor,
    attn: AttentionScratch,
    mlp: MlpScratch,
}

impl BlockSaved {
    /// For up to `n_sequences` sequences of `n_positions`.
    pub fn new(config: &ModelConfig, n_sequences: usize, n_positions: usize, rooms: &mut Rooms) -> BlockSaved {
        let n_rows = n_sequences * n_positions;
        BlockSaved {
            ln_1: LayerNormSaved::new(n_rows, rooms),
            attn: AttentionSaved::new(config, n_sequences, n_positions, rooms),
            middle: rooms.zeros([n_rows, config.n_embd]),
            ln_2: LayerNormSaved::new(n_rows, rooms),
            mlp: MlpSaved::new(n_rows, config.n_embd, rooms),
            n_positions,
        }
    }

    /// For a smaller batch.
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
    /// For up to `n_rows` rows of width `c`.
    pub fn new(n_rows: usize, c: usize, rooms: &mut Rooms) -> BlockScratch {
        BlockScratch {
            normed: rooms.zeros([n_rows, c]),
            dbranch: rooms.zeros([n_rows, c]),
            dnormed: rooms.zeros([n_rows, c]),
            attn: AttentionScratch::new(n_rows, c, rooms),
            mlp: MlpScratch::new(n_rows, c, rooms),
        }
    }

    /// For a smaller batch.
    pub fn set_rows(&mut self, n_rows: usize) {
        self.normed.set_rows(n_rows);
        self.dbranch.set_rows(n_rows);
        self.dnormed.set_rows(n_rows);
        self.attn.set_rows(n_rows);
        self.mlp.set_rows(n_rows);
    }
}

impl Block {
    /// Zeros of a model's shape.
    pub fn zeros(config: &ModelConfig) -> Block {
        let c = config.n_embd;
        Block {
            ln_1: LayerNorm::zeros(c),
            attn: Attention::zeros(c, config.qkv_bias),
            ln_2: LayerNorm::zeros(c),
            mlp: Mlp::zeros(c),
        }
    }

    /// y [B·T, C] from x [B·T, C], in layer `layer`.
    pub fn forward(
        &self,
        dev: &Device,
        layer: usize,
        x: &Tensor,
        drop: &Dropout<'_>,
        y: &mut Tensor,
        saved: &mut BlockSaved,
        scratch: &mut BlockScratch,
    ) {
        let BlockScratch { normed, mlp, .. } = scratch;
        let keep = drop.keep(layer, Site::AttentionBranch);
        let stream = Residual { x, keep: keep.as_ref(), rows_per_sequence: saved.n_positions };
        self.ln_1.forward(dev, x, normed, &mut saved.ln_1);
        self.attn.forward_residual(dev, layer, normed, drop, stream, &mut saved.middle, &mut saved.attn);

        let keep = drop.keep(layer, Site::MlpBranch);
        let stream = Residual { x: &saved.middle, keep: keep.as_ref(), rows_per_sequence: saved.n_positions };
        self.ln_2.forward(dev, &saved.middle, normed, &mut saved.ln_2);
        self.mlp.forward_residual(dev, normed, stream, y, &mut saved.mlp, mlp);
    }

    /// `dx` holds dy and becomes dx: the residual stream's gradient is added to; so is `grad`.
    pub fn backward_add(
        &self,
        dev: &Device,
        layer: usize,
        dx: &mut Tensor,
        x: &Tensor,
        drop: &Dropout<'_>,
        saved: &BlockSaved,
        grad: &mut Block,
        scratch: &mut BlockScratch,
    ) {
        let t = saved.n_positions;
        let BlockScratch { normed, dbranch: room, dnormed, attn, mlp } = scratch;
        self.ln_2.forward_again(dev, &saved.middle, &saved.ln_2, normed);
        let dbranch = dropped(dev, dx, drop, layer, Site::MlpBranch, t, room);
        self.mlp.backward(dev, dbranch, normed, &saved.mlp, dnormed, &mut grad.mlp, mlp);
        self.ln_2.backward_add(dev, dnormed, &saved.middle, &saved.ln_2, dx, &mut grad.ln_2);

        self.ln_1.forward_again(dev, x, &saved.ln_1, normed);
        let dbranch = dropped(dev, dx, drop, layer, Site::AttentionBranch, t, room);
        self.attn.backward(dev, layer, dbranch, normed, drop, &saved.attn, dnormed, &mut grad.attn, attn);
        self.ln_1.backward_add(dev, dnormed, x, &saved.ln_1, dx, &mut grad.ln_1);
    }
}

/// dy behind a branch's dropout: made in `room`, or dy itself where nothing is dropped.
fn dropped<'a>(
    dev: &Device,
    dy: &'a Tensor,
    drop: &Dropout<'_>,
    layer: usize,
    site: Site,
    n_positions: usize,
    room: &'a mut Tensor,
) -> &'a Tensor {
    match drop.keep(layer, site) {
        None => dy,
        Some(keep) => {
            ops::drop_elements(dev, dy, &keep, n_positions, room);
            room
        }
    }
}
