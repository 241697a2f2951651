//! Inference: new tokens of any sequences, over what the cache keeps of them.
//!
//! A prompt, a chunk of one, one token each of many sequences are the same call. A row's logits do not depend on the rows
//! beside it or on how its prompt was cut.

use super::{Attention, Block, Gpt, KvCache, LayerNormSaved, Mlp, ModelConfig};
use crate::ops::{self, Device, Residual};
use crate::tensor::{Rooms, Tensor};

/// The new tokens of one call: which sequence each belongs to, in the order of its positions.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    tokens: Vec<u32>,
    sequences: Vec<u32>,
    positions: Vec<u32>,
    /// Rows whose logits are wanted.
    wanted: Vec<usize>,
}

impl Rows {
    /// None yet.
    pub fn new() -> Rows {
        Rows::default()
    }

    /// Empties it, keeping its room.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.sequences.clear();
        self.positions.clear();
        self.wanted.clear();
    }

    /// Adds the next token of a sequence; `wanted` asks for the logits that follow it.
    pub fn push(&mut self, sequence: usize, token: u32, wanted: bool) {
        if wanted {
            self.wanted.push(self.tokens.len());
        }
        self.tokens.push(token);
        self.sequences.push(sequence as u32);
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

/// Work space of inference.
#[derive(Debug)]
pub struct ExtendScratch {
    x: Tensor,
    middle: Tensor,
    normed: Tensor,
    /// The heads' outputs.
    heads: Tensor,
    qkv: Tensor,
    fc: Tensor,
    gelu: Tensor,
    norm: LayerNormSaved,
    /// The hidden states whose logits are wanted.
    last: Tensor,
}

impl ExtendScratch {
    /// For up to `n_rows` rows a call.
    pub fn new(config: &ModelConfig, n_rows: usize) -> ExtendScratch {
        ExtendScratch::with_rooms(config, n_rows, &mut Rooms::Real)
    }

    pub(super) fn with_rooms(config: &ModelConfig, n_rows: usize, rooms: &mut Rooms) -> ExtendScratch {
        let norm = LayerNormSaved::new(n_rows, rooms);
        let mut wide = |n: usize| rooms.zeros([n_rows, n * config.n_embd]);
        ExtendScratch {
            x: wide(1),
            middle: wide(1),
            normed: wide(1),
            heads: wide(1),
            qkv: wide(3),
            fc: wide(4),
            gelu: wide(4),
            norm,
            last: wide(1),
        }
    }

    /// Rows that a call may have.
    pub fn max_rows(&self) -> usize {
        self.x.room() / self.x.row_len()
    }

    fn set_rows(&mut self, n: usize) {
        for x in [&mut self.x, &mut self.middle, &mut self.normed, &mut self.heads, &mut self.qkv] {
            x.set_rows(n);
        }
        self.fc.set_rows(n);
        self.gelu.set_rows(n);
        self.norm.set_rows(n);
    }
}

impl Attention {
    /// y [R, C] of new rows: the residual stream plus attention's result; their keys and values join the cache.
    fn extend(
        &self,
        dev: &Device,
        rows: &Rows,
        n_head: usize,
        x: &Tensor,
        y: &mut Tensor,
        layer: usize,
        kv: &mut KvCache,
        residual: &Tensor,
        qkv: &mut Tensor,
        heads: &mut Tensor,
    ) {
        self.c_attn.forward(dev, x, qkv);
        let (pages, keys, values) = kv.layer_mut(layer);
        ops::store_kv(dev, qkv, &rows.sequences, &rows.positions, pages, keys, values);
        ops::attention_extend(dev, qkv, n_head, &rows.sequences, &rows.positions, pages, keys, values, heads);
        self.c_proj.forward_residual(dev, heads, stream(residual), y);
    }
}

/// Nothing is dropped in inference.
fn stream(x: &Tensor) -> Residual<'_> {
    Residual { x, keep: None, rows_per_sequence: 1 }
}

impl Mlp {
    fn extend(&self, dev: &Device, x: &Tensor, residual: &Tensor, y: &mut Tensor, fc: &mut Tensor, gelu: &mut Tensor) {
        self.c_fc.forward_gelu(dev, x, fc, gelu);
        self.c_proj.forward_residual(dev, gelu, stream(residual), y);
    }
}

impl Block {
    /// The residual stream of new rows, in `scratch.x`, through layer `layer`.
    fn extend(
        &self,
        dev: &Device,
        rows: &Rows,
        n_head: usize,
        layer: usize,
        kv: &mut KvCache,
        scratch: &mut ExtendScratch,
    ) {
        let ExtendScratch { x, middle, normed, heads, qkv, fc, gelu, norm, .. } = scratch;
        self.ln_1.forward(dev, x, normed, norm);
        self.attn.extend(dev, rows, n_head, normed, middle, layer, kv, x, qkv, heads);

        self.ln_2.forward(dev, middle, normed, norm);
        self.mlp.extend(dev, normed, middle, x, fc, gelu);
    }
}

impl Gpt {
    /// Logits [wanted rows, V] after new tokens, which join the cache; `logits` has room for that many rows.
    ///
    /// # Panics
    /// If there are no rows or more than `scratch` has room for, or a sequence outgrows the model's context.
    pub fn extend(
        &self,
        dev: &Device,
        rows: &mut Rows,
        kv: &mut KvCache,
        logits: &mut Tensor,
        scratch: &mut ExtendScratch,
    ) {
        assert!(!rows.is_empty() && rows.len() <= scratch.max_rows(), "Gpt::extend: {} rows", rows.len());
        scratch.set_rows(rows.len());
        rows.positions.clear();
        for &sequence in &rows.sequences {
            rows.positions.push(kv.grow(sequence as usize) as u32);
        }
        ops::embedding_forward(dev, &rows.tokens, &rows.positions, &self.wte, &self.wpe, &mut scratch.x);
        for (i, block) in self.h.iter().enumerate() {
            block.extend(dev, rows, self.config.n_head, i, kv, scratch);
        }
        if rows.wanted.is_empty() {
            return;
        }
        let ExtendScratch { x, normed, norm, last, .. } = scratch;
        self.ln_f.forward(dev, x, normed, norm);
        last.set_rows(rows.wanted.len());
        ops::gather_rows(dev, normed, &rows.wanted, last);
        logits.set_rows(rows.wanted.len());
        ops::linear_forward(dev, last, self.head(), &Tensor::absent(), logits);
    }
}
