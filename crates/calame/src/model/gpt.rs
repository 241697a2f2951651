//! The model: embeddings, blocks, a last normalisation, a head.

use super::ModelConfig;
use super::block::{Block, BlockSaved, BlockScratch};
use super::dropout::{Dropout, Site};
use super::layer_norm::{LayerNorm, LayerNormSaved};
use crate::ops::{self, ClassifierScratch, Device};
use crate::tensor::{Rooms, Tensor};

/// Parameters of a GPT; also its gradients, and each of its Adam moments.
#[derive(Clone, Debug)]
pub struct Gpt {
    /// The shape.
    pub config: ModelConfig,
    /// Token embedding [V, C].
    pub wte: Tensor,
    /// Position embedding [n_positions, C].
    pub wpe: Tensor,
    /// The blocks.
    pub h: Vec<Block>,
    /// The last normalisation.
    pub ln_f: LayerNorm,
    /// [V, C]; absent where the head is `wte`.
    pub lm_head: Tensor,
}

/// What becomes final together in backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `ln_f` and a head of its own.
    Head,
    /// Block i.
    Block(usize),
    /// `wte` and `wpe`.
    Embeddings,
}

/// What forward keeps: for training everything that backward reads, for evaluation one block's worth.
#[derive(Debug)]
pub struct Saved {
    /// Inputs of the blocks and output of the last, [B·T, C] each.
    x: Vec<Tensor>,
    h: Vec<BlockSaved>,
    ln_f: LayerNormSaved,
    /// ln_f's output, [B·T, C].
    y: Tensor,
    positions: Vec<u32>,
    n_positions: usize,
}

/// Work space of forward and backward, the same for every block.
#[derive(Debug)]
pub struct Scratch {
    block: BlockScratch,
    dx: Tensor,
    dy: Tensor,
    classifier: ClassifierScratch,
}

impl Saved {
    /// For training on up to `n_sequences` sequences of up to `n_positions`.
    pub fn for_training(config: &ModelConfig, n_sequences: usize, n_positions: usize) -> Saved {
        Saved::with_blocks(config, config.n_layer, n_sequences, n_positions, &mut Rooms::Real)
    }

    /// For evaluation: every block reuses the same room.
    pub fn for_evaluation(config: &ModelConfig, n_sequences: usize, n_positions: usize) -> Saved {
        Saved::with_blocks(config, 1, n_sequences, n_positions, &mut Rooms::Real)
    }

    /// Room for `n_blocks` blocks: all of the model's in training, one in evaluation.
    pub(super) fn with_blocks(
        config: &ModelConfig,
        n_blocks: usize,
        n_sequences: usize,
        n_positions: usize,
        rooms: &mut Rooms,
    ) -> Saved {
        let n_rows = n_sequences * n_positions;
        Saved {
            x: (0..=n_blocks).map(|_| rooms.zeros([n_rows, config.n_embd])).collect(),
            h: (0..n_blocks).map(|_| BlockSaved::new(config, n_sequences, n_positions, rooms)).collect(),
            ln_f: LayerNormSaved::new(n_rows, rooms),
            y: rooms.zeros([n_rows, config.n_embd]),
            positions: rooms.list(n_rows),
            n_positions,
        }
    }

    fn set_batch(&mut self, n_sequences: usize, n_positions: usize) {
        let n_rows = n_sequences * n_positions;
        self.n_positions = n_positions;
        self.x.iter_mut().for_each(|x| x.set_rows(n_rows));
        self.h.iter_mut().for_each(|h| h.set_batch(n_sequences, n_positions));
        self.ln_f.set_rows(n_rows);
        self.y.set_rows(n_rows);
        self.positions.clear();
        self.positions.extend((0..n_rows).map(|r| (r % n_positions) as u32));
    }
}

impl Scratch {
    /// For up to `n_rows` rows (B·T).
    pub fn new(config: &ModelConfig, n_rows: usize) -> Scratch {
        Scratch::with_rooms(config, n_rows, &mut Rooms::Real, &mut Rooms::Real)
    }

    /// The classifier's room apart from the rest.
    pub(super) fn with_rooms(
        config: &ModelConfig,
        n_rows: usize,
        rooms: &mut Rooms,
        of_classifier: &mut Rooms,
    ) -> Scratch {
        Scratch {
            block: BlockScratch::new(n_rows, config.n_embd, rooms),
            dx: rooms.zeros([n_rows, config.n_embd]),
            dy: rooms.zeros([n_rows, config.n_embd]),
            classifier: ClassifierScratch::new(n_rows, config.vocab_size, of_classifier),
        }
    }

    fn set_rows(&mut self, n_rows: usize) {
        self.block.set_rows(n_rows);
        self.dx.set_rows(n_rows);
        self.dy.set_rows(n_rows);
    }
}

impl Gpt {
    /// All zeros: a model that is about to be read.
    pub fn zeros(config: &ModelConfig) -> Gpt {
        let wte = Tensor::zeros([config.vocab_size, config.n_embd]);
        Gpt::zeros_with(config, wte, config.n_layer)
    }

    /// All zeros: gradients or a moment. With a head of its own, `wte` takes memory for the tokens that come.
    pub fn zeros_for_training(config: &ModelConfig) -> Gpt {
        Gpt::zeros_with(config, Gpt::zeros_by_token(config), config.n_layer)
    }

    /// Gradients for an optimizer that takes each part's, and sets it to zero, when `ready` is called: the blocks take turns
    /// at one block's memory.
    pub fn zeros_of_one_block(config: &ModelConfig) -> Gpt {
        Gpt::zeros_with(config, Gpt::zeros_by_token(config), config.n_layer.min(1))
    }

    /// What is touched of a gradient of `wte`: where the head is the same table every row, else those of a text's tokens.
    fn zeros_by_token(config: &ModelConfig) -> Tensor {
        let dims = [config.vocab_size, config.n_embd];
        if config.tied_head { Tensor::zeros(dims) } else { Tensor::sparse_zeros(dims) }
    }

    /// `wte`, and zeros for all else, with so many blocks.
    pub(super) fn zeros_with(config: &ModelConfig, wte: Tensor, n_blocks: usize) -> Gpt {
        let (v, c) = (config.vocab_size, config.n_embd);
        Gpt {
            wte,
            wpe: Tensor::zeros([config.n_positions, c]),
            h: (0..n_blocks).map(|_| Block::zeros(config)).collect(),
            ln_f: LayerNorm::zeros(c),
            lm_head: if config.tied_head { Tensor::absent() } else { Tensor::zeros([v, c]) },
            config: config.clone(),
        }
    }

    /// Block i of this tree; of [`Gpt::zeros_of_one_block`] the one that all take turns at.
    pub(super) fn block_mut(&mut self, i: usize) -> &mut Block {
        assert!(i < self.config.n_layer, "block {i} of {}", self.config.n_layer);
        if self.h.len() == 1 { &mut self.h[0] } else { &mut self.h[i] }
    }

    /// The head's weight [V, C]: its own or the token embedding.
    pub fn head(&self) -> &Tensor {
        if self.config.tied_head { &self.wte } else { &self.lm_head }
    }

    /// Where the head's gradient goes.
    fn head_grad(&mut self) -> &mut Tensor {
        if self.config.tied_head { &mut self.wte } else { &mut self.lm_head }
    }

    /// Hidden states after `ln_f`, in `saved`, for tokens [B, T] of `n_sequences` sequences.
    ///
    /// # Panics
    /// If the tokens are not B equal rows, longer than the model's context, or more than `saved` has room for.
    fn forward(
        &self,
        dev: &Device,
        tokens: &[u32],
        n_sequences: usize,
        drop: &Dropout<'_>,
        saved: &mut Saved,
        scratch: &mut Scratch,
    ) {
        let n_positions = tokens.len() / n_sequences.max(1);
        assert!(
            n_positions > 0 && n_positions * n_sequences == tokens.len() && n_positions <= self.config.n_positions,
            "Gpt::forward: {} tokens in {n_sequences} sequences, context of {}",
            tokens.len(),
            self.config.n_positions
        );
        saved.set_batch(n_sequences, n_positions);
        scratch.set_rows(tokens.len());
        let (n_kept, x) = (saved.h.len(), &mut saved.x);
        ops::embedding_forward(dev, tokens, &saved.positions, &self.wte, &self.wpe, &mut x[0]);
        if let Some(keep) = drop.keep(0, Site::Embedding) {
            ops::drop_in_place(dev, &keep, n_positions, &mut x[0]);
        }
        for (i, block) in self.h.iter().enumerate() {
            // Training keeps every block's input; evaluation has two rooms, which take turns.
            let (input, output) = two(x, i % (n_kept + 1), (i + 1) % (n_kept + 1));
            block.forward(dev, i, input, drop, output, &mut saved.h[i % n_kept], &mut scratch.block);
        }
        let last = self.h.len() % (n_kept + 1);
        self.ln_f.forward(dev, &x[last], &mut saved.y, &mut saved.ln_f);
    }

    /// The sum over tokens of the loss of predicting `targets` [B, T] from `inputs` [B, T], nothing dropped.
    pub fn loss(
        &self,
        dev: &Device,
        inputs: &[u32],
        targets: &[u32],
        n_sequences: usize,
        saved: &mut Saved,
        scratch: &mut Scratch,
    ) -> f64 {
        self.forward(dev, inputs, n_sequences, &Dropout::Off, saved, scratch);
        ops::classifier_forward(dev, &saved.y, self.head(), targets, &mut scratch.classifier)
    }

    /// The loss of each token, [B·T], nothing dropped.
    pub fn token_losses<'s>(
        &self,
        dev: &Device,
        inputs: &[u32],
        targets: &[u32],
        n_sequences: usize,
        saved: &mut Saved,
        scratch: &'s mut Scratch,
    ) -> &'s [f32] {
        self.loss(dev, inputs, targets, n_sequences, saved, scratch);
        scratch.classifier.losses(targets.len())
    }

    /// One micro-step: the sum of the losses; the gradients of that sum times `scale` are added to `grad`.
    ///
    /// `scale` is one over the tokens of the step's whole batch. `ready(part, weights, grad)` is called as soon as the
    /// gradient of a part is final and its weights are not needed any more: `Head` first, then blocks from the last to the
    /// first, `Embeddings` last (a tied head is final with them).
    ///
    /// `grad` is one of [`Gpt::zeros_for_training`], or of [`Gpt::zeros_of_one_block`] if `ready` sets what it takes to zero.
    ///
    /// If the loss is not finite there is no backward and no call of `ready`; `grad` is of no use then.
    pub fn forward_backward(
        &mut self,
        dev: &Device,
        inputs: &[u32],
        targets: &[u32],
        n_sequences: usize,
        drop: &Dropout<'_>,
        scale: f32,
        grad: &mut Gpt,
        saved: &mut Saved,
        scratch: &mut Scratch,
        ready: &mut dyn FnMut(Part, &mut Gpt, &mut Gpt),
    ) -> f64 {
        assert_eq!(saved.h.len(), self.h.len(), "Gpt::forward_backward: `saved` is one of evaluation");
        self.forward(dev, inputs, n_sequences, drop, saved, scratch);
        let Scratch { block: block_scratch, dx, dy, classifier } = scratch;
        let (head, dhead) = (self.head(), grad.head_grad());
        let loss = ops::classifier_forward_backward(dev, &saved.y, head, targets, scale, dy, dhead, classifier);
        if !loss.is_finite() {
            return loss;
        }
        let n_layer = self.h.len();
        dx.as_mut_slice().fill(0.0);
        self.ln_f.backward_add(dev, dy, &saved.x[n_layer], &saved.ln_f, dx, &mut grad.ln_f);
        ready(Part::Head, self, grad);
        for i in (0..n_layer).rev() {
            self.h[i].backward_add(dev, i, dx, &saved.x[i], drop, &saved.h[i], grad.block_mut(i), block_scratch);
            ready(Part::Block(i), self, grad);
        }
        if let Some(keep) = drop.keep(0, Site::Embedding) {
            ops::drop_in_place(dev, &keep, saved.n_positions, dx);
        }
        ops::embedding_backward(dev, inputs, &saved.positions, dx, &mut grad.wte, &mut grad.wpe);
        ready(Part::Embeddings, self, grad);
        loss
    }

    /// Logits [B·T, V] of every position, nothing dropped: for comparing programs, not for training.
    pub fn logits(&self, dev: &Device, tokens: &[u32], n_sequences: usize) -> Tensor {
        let mut saved = Saved::for_evaluation(&self.config, n_sequences, tokens.len() / n_sequences.max(1));
        let mut scratch = Scratch::new(&self.config, tokens.len());
        self.forward(dev, tokens, n_sequences, &Dropout::Off, &mut saved, &mut scratch);
        let mut logits = Tensor::zeros([tokens.len(), self.config.vocab_size]);
        ops::linear_forward(dev, &saved.y, self.head(), &Tensor::absent(), &mut logits);
        logits
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
