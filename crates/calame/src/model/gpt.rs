//! The model: embeddings, blocks, a last normalisation, a head.

use super::ModelConfig;
use super::attention::Attend;
use super::batch::{Batch, BatchSlices};
use super::block::{Block, BlockSaved, BlockScratch};
use super::dropout::{Dropout, Site};
use super::layer_norm::{LayerNorm, LayerNormSaved};
use super::params::{LM_HEAD, LN_F, ParamName, WPE, WTE};
use super::trainable::Trainable;
use super::zeros::Zeros;
use crate::ops::{self, Device, Epilogue, LossScratch, Phase};
use crate::tensor::{Alloc, Tensor};

/// Parameters of a GPT; also each of its Adam moments.
#[derive(Clone, Debug)]
pub struct Gpt {
    /// Sizes and options that give every tensor its shape.
    pub config: ModelConfig,
    /// Token embedding [V, C].
    pub wte: Tensor,
    /// Position embedding [n_positions, C].
    pub wpe: Tensor,
    /// The L blocks, in the order of forward.
    pub h: Vec<Block>,
    /// The normalisation between the last block and the head.
    pub ln_f: LayerNorm,
    /// [V, C]; absent where the head is `wte`.
    pub lm_head: Tensor,
}

/// What forward saves: for training everything that backward reads, for evaluation the buffers of one block.
#[derive(Debug)]
pub struct Saved {
    /// Inputs of the blocks and output of the last, [B·T, C] each.
    pub(super) x: Vec<Tensor>,
    pub(super) h: Vec<BlockSaved>,
    pub(super) ln_f: LayerNormSaved,
    /// ln_f's output, [B·T, C].
    y: Tensor,
}

/// Work space of forward and backward, the same for every block.
#[derive(Debug)]
pub struct Scratch {
    pub(super) block: BlockScratch,
    pub(super) dx: Tensor,
    /// The gradient of the hidden states: from the loss to backward.
    pub(super) dy: Tensor,
    pub(super) loss: LossScratch,
}

impl Saved {
    /// For training on up to `n_sequences` sequences of up to `n_positions`.
    pub fn for_training(config: &ModelConfig, n_sequences: usize, n_positions: usize, alloc: &mut Alloc<'_>) -> Saved {
        Saved::with_blocks(config, config.n_layer, n_sequences, n_positions, alloc)
    }

    /// For evaluation: every block reuses the same buffers.
    pub fn for_evaluation(
        config: &ModelConfig,
        n_sequences: usize,
        n_positions: usize,
        alloc: &mut Alloc<'_>,
    ) -> Saved {
        Saved::with_blocks(config, 1, n_sequences, n_positions, alloc)
    }

    /// With buffers for `n_blocks` blocks: all of the model's in training, one in evaluation.
    pub(super) fn with_blocks(
        config: &ModelConfig,
        n_blocks: usize,
        n_sequences: usize,
        n_positions: usize,
        alloc: &mut Alloc<'_>,
    ) -> Saved {
        let n_rows = n_sequences * n_positions;
        Saved {
            x: (0..=n_blocks).map(|_| alloc.zeros([n_rows, config.n_embd])).collect(),
            h: (0..n_blocks).map(|_| BlockSaved::new(config, n_sequences, n_positions, alloc)).collect(),
            ln_f: LayerNormSaved::new(n_rows, alloc),
            y: alloc.zeros([n_rows, config.n_embd]),
        }
    }

    fn set_batch(&mut self, n_sequences: usize, n_positions: usize) {
        let n_rows = n_sequences * n_positions;
        self.x.iter_mut().for_each(|x| x.set_rows(n_rows));
        self.h.iter_mut().for_each(|h| h.set_batch(n_sequences, n_positions));
        self.ln_f.set_rows(n_rows);
        self.y.set_rows(n_rows);
    }

    /// The hidden states that the last forward left, [B·T, C]: what a head reads.
    pub fn hidden(&self) -> &Tensor {
        &self.y
    }
}

impl Scratch {
    /// For up to `n_rows` rows (B·T) of a model without adapters, and its own head.
    pub fn new(config: &ModelConfig, n_rows: usize, alloc: &mut Alloc<'_>) -> Scratch {
        Scratch::with_outputs(config, n_rows, config.vocab_size, 0, alloc)
    }

    /// For up to `n_rows` rows (B·T), a head of up to `n_outputs` outputs, and adapters of up to `rank`.
    pub fn with_outputs(
        config: &ModelConfig,
        n_rows: usize,
        n_outputs: usize,
        rank: usize,
        alloc: &mut Alloc<'_>,
    ) -> Scratch {
        Scratch {
            block: BlockScratch::new(config, n_rows, rank, alloc),
            dx: alloc.zeros([n_rows, config.n_embd]),
            dy: alloc.zeros([n_rows, config.n_embd]),
            loss: LossScratch::new(n_rows, n_outputs, alloc),
        }
    }

    fn set_rows(&mut self, n_rows: usize) {
        self.block.set_rows(n_rows);
        self.dx.set_rows(n_rows);
        self.dy.set_rows(n_rows);
    }

    /// The loss of each target of the last batch, `[R]`: not weighted, 0 where the weight is 0.
    pub fn losses(&self) -> &Tensor {
        self.loss.losses()
    }
}

/// Zeros of `wte`, for gradients and moments: where the head is the same table every row is touched, else those of a
/// text's tokens only.
pub(super) fn zeros_by_token(zeros: &mut Zeros<'_, '_>) -> Tensor {
    if zeros.config.tied_head { zeros.tensor(&WTE) } else { zeros.sparse_tensor(&WTE) }
}

impl Gpt {
    /// All zeros: a model whose weights are about to be read.
    pub fn zeros(config: &ModelConfig, alloc: &mut Alloc<'_>) -> Gpt {
        let mut zeros = Zeros { config, base: true, alloc };
        let wte = zeros.tensor(&WTE);
        let wpe = zeros.tensor(&WPE);
        let h = (0..config.n_layer).map(|_| Block::zeros(&mut zeros)).collect();
        let (ln_f, lm_head) = (LayerNorm::zeros(&mut zeros, &LN_F), zeros.tensor(&LM_HEAD));
        Gpt { config: config.clone(), wte, wpe, h, ln_f, lm_head }
    }

    /// All zeros: one of AdamW's moments of the parameters that are trained. With a head of its own, `wte` takes memory
    /// for the tokens of the text.
    pub fn moments(&self, trainable: Trainable, alloc: &mut Alloc<'_>) -> Gpt {
        let mut moments = Gpt::moments_of_shape(&self.config, trainable, alloc);
        for (to, from) in moments.h.iter_mut().zip(&self.h).skip(trainable.first_block) {
            to.mirror_adapters(from, alloc);
        }
        moments
    }

    /// As [`moments`](Self::moments), for a model without adapters that need not be in memory.
    pub fn moments_of_shape(config: &ModelConfig, trainable: Trainable, alloc: &mut Alloc<'_>) -> Gpt {
        let base = !trainable.adapters_only;
        let mut zeros = Zeros { config, base: base && trainable.first_block == 0, alloc };
        let (wte, wpe) = (zeros_by_token(&mut zeros), zeros.tensor(&WPE));
        let block = |i| {
            zeros.base = base && i >= trainable.first_block;
            Block::zeros(&mut zeros)
        };
        let h = (0..config.n_layer).map(block).collect();
        zeros.base = base;
        let ln_f = LayerNorm::zeros(&mut zeros, &LN_F);
        zeros.base = base && trainable.lm_head;
        let lm_head = zeros.tensor(&LM_HEAD);
        Gpt { config: config.clone(), wte, wpe, h, ln_f, lm_head }
    }

    /// The head's weight [V, C]: its own or the token embedding.
    pub fn head(&self) -> &Tensor {
        if self.config.tied_head { &self.wte } else { &self.lm_head }
    }

    /// The largest rank of its adapters; 0 without any.
    pub fn rank(&self) -> usize {
        self.h.iter().flat_map(Block::linears).map(super::Linear::rank).max().unwrap_or(0)
    }

    /// Hidden states after `ln_f`, in `saved`.
    ///
    /// # Panics
    /// If the batch is longer than the model's context, has a token outside the vocabulary, or exceeds the capacity of
    /// `saved` or `scratch`.
    pub fn forward(&self, dev: &Device, batch: &Batch, drop: &Dropout<'_>, saved: &mut Saved, scratch: &mut Scratch) {
        let n_positions = batch.n_positions();
        assert!(
            n_positions <= self.config.n_positions,
            "Gpt::forward: sequences of {n_positions} tokens, the model's context is {}",
            self.config.n_positions
        );
        saved.set_batch(batch.n_sequences(), n_positions);
        scratch.set_rows(batch.n_rows());
        let (n_saved, x) = (saved.h.len(), &mut saved.x);
        ops::embedding_forward(dev, &batch.inputs, &batch.positions, &self.wte, &self.wpe, &mut x[0]);
        if let Some(mask) = drop.mask(0, Site::Embedding) {
            ops::drop_in_place(dev, &mask, n_positions, &mut x[0]);
        }
        for (i, block) in self.h.iter().enumerate() {
            // Training saves every block's input; evaluation alternates between two buffers.
            let (input, output) = two(x, i % (n_saved + 1), (i + 1) % (n_saved + 1));
            let (saved, scratch) = (&mut saved.h[i % n_saved], &mut scratch.block.forward);
            let attend = Attend::Batch { starts: batch.starts() };
            block.forward(dev, i, input, attend, drop, output, saved, scratch);
        }
        let last = self.h.len() % (n_saved + 1);
        self.ln_f.forward(dev, &x[last], &mut saved.y, &mut saved.ln_f);
    }

    /// Logits [B·T, V] of every position, nothing dropped: for comparing programs, not for training.
    ///
    /// # Panics
    /// If the tokens are not B equal rows of at least one token, are longer than the model's context, or one is outside
    /// the vocabulary.
    pub fn logits(&self, dev: &Device, tokens: &[u32], n_sequences: usize) -> Tensor {
        if let Some(token) = tokens.iter().find(|&&token| token as usize >= self.config.vocab_size) {
            panic!("Gpt::logits: token {token} is not one of the model's {}", self.config.vocab_size);
        }
        let alloc = &mut Alloc::on(dev);
        let mut batch = Batch::new(tokens.len(), alloc);
        batch.load(dev, BatchSlices::of_tokens(tokens, n_sequences));
        let mut saved = Saved::for_evaluation(&self.config, n_sequences, batch.n_positions(), alloc);
        let mut scratch = Scratch::with_outputs(&self.config, tokens.len(), 1, self.rank(), alloc);
        self.forward(dev, &batch, &Dropout::Off, &mut saved, &mut scratch);
        let mut logits = alloc.zeros([tokens.len(), self.config.vocab_size]);
        let (x, no_bias, y) = (saved.y.view(), Tensor::absent(), logits.view_mut());
        ops::linear_forward(dev, Phase::HeadForward, x, self.head(), &no_bias, false, y, Epilogue::None);
        logits
    }

    /// The first parameter that holds a number that is not finite.
    pub fn first_not_finite(&self, dev: &Device) -> Option<ParamName> {
        self.tensors().find(|(_, tensor)| !ops::all_finite(dev, tensor)).map(|(name, _)| name)
    }
}

/// Elements `read` and `write` of a slice.
fn two(x: &mut [Tensor], read: usize, write: usize) -> (&Tensor, &mut Tensor) {
    if read < write {
        let (low, high) = x.split_at_mut(write);
        (&low[read], &mut high[0])
    } else {
        let (low, high) = x.split_at_mut(read);
        (&high[0], &mut low[write])
    }
}
