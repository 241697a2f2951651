//! The source of dropout masks.
//!
//! The key of a mask is (seed, step) and its counter (sequence in the step's whole batch, layer and site, row, column):
//! accumulation and several machines draw the masks of one large batch, and backward computes them again instead of reading
//! them. Masks in the order of PyTorch's generator cannot be computed again: [`Masks`] stores them, a bit an element.

use super::ModelConfig;
use crate::ops::DropMask;
use crate::rng::Key;
use crate::rng::torch::Generator;

/// The four places in a model that drop elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Site {
    Embedding,
    Attention,
    AttentionBranch,
    MlpBranch,
}

/// The source of dropout masks for one pass over one batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Dropout<'a> {
    /// Nothing is dropped: evaluation and inference, or a model without dropout.
    Off,
    /// Masks by the counter-based generator, made again in backward.
    Counter {
        /// Stands for seed and step.
        key: Key,
        /// Place of the batch's first sequence in the step's whole batch, so that masks depend on neither rank nor
        /// micro-step.
        first_sequence: u32,
        /// Probability of dropping an element.
        p: f32,
    },
    /// Masks that were drawn before, for a batch of just this size.
    Stored(&'a Masks),
}

impl<'a> Dropout<'a> {
    /// Masks of probability `p` for a step's key; Off where p is 0.
    pub fn of_step(key: Key, first_sequence: u32, p: f32) -> Dropout<'a> {
        if p == 0.0 { Dropout::Off } else { Dropout::Counter { key, first_sequence, p } }
    }

    /// The factors of one site of one layer.
    pub(super) fn mask(&self, layer: usize, site: Site) -> Option<DropMask<'a>> {
        match *self {
            Dropout::Off => None,
            Dropout::Counter { key, first_sequence, p } => {
                Some(DropMask::new(key, first_sequence, (layer as u32) << 2 | site as u32, p))
            }
            Dropout::Stored(masks) => Some(masks.mask(layer, site)),
        }
    }
}

/// The masks of one step as PyTorch's generator draws them, a bit an element.
///
/// The book's GPTModel drops, in this order: the sum of the embeddings [B, T, C], then in each block attention's weights
/// [B, NH, T, T] (those that the causal mask hides too) and both branches [B, T, C].
#[derive(Clone, Debug, PartialEq)]
pub struct Masks {
    rate: f64,
    n_head: usize,
    n_embd: usize,
    embedding: Mask,
    blocks: Vec<BlockMasks>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct BlockMasks {
    attention: Mask,
    attention_branch: Mask,
    mlp_branch: Mask,
}

/// Rows of bits, each of which begins with a word.
#[derive(Clone, Debug, Default, PartialEq)]
struct Mask {
    words: Vec<u64>,
    rows_per_sequence: usize,
    columns: usize,
}

impl Masks {
    /// For a model's dropout; takes memory when the first masks are drawn, T·(NH·T + 2·C) / 8 bytes a sequence and block.
    ///
    /// The rate is the f64 of the same decimal fraction as `config.dropout`, as a script has it: 0.1 of f32 is not 0.1.
    pub fn new(config: &ModelConfig) -> Masks {
        Masks {
            rate: config.dropout.to_string().parse().expect("an f32 in decimals is an f64"),
            n_head: config.n_head,
            n_embd: config.n_embd,
            embedding: Mask::default(),
            blocks: vec![BlockMasks::default(); config.n_layer],
        }
    }

    /// Bytes of the masks of a step over [B, T].
    pub(super) fn bytes(config: &ModelConfig, n_sequences: usize, n_positions: usize) -> u64 {
        let bytes_of = |rows: usize, columns: usize| (n_sequences * rows) as u64 * 8 * columns.div_ceil(64) as u64;
        let branch = bytes_of(n_positions, config.n_embd);
        let attention = bytes_of(config.n_head * n_positions, n_positions);
        if config.dropout == 0.0 { 0 } else { branch + config.n_layer as u64 * (attention + 2 * branch) }
    }

    /// Draws the masks of a step over [B, T] tokens; draws nothing where the rate is 0.
    ///
    /// Allocates nothing for batches no larger than one before.
    pub fn draw(&mut self, random: &mut Generator, n_sequences: usize, n_positions: usize) -> Dropout<'_> {
        if self.rate == 0.0 {
            return Dropout::Off;
        }
        let (rate, c, attention_rows) = (self.rate, self.n_embd, self.n_head * n_positions);
        let mut draw = |mask: &mut Mask, rows_per_sequence, columns| {
            mask.draw(random, rate, n_sequences, rows_per_sequence, columns);
        };
        draw(&mut self.embedding, n_positions, c);
        for block in &mut self.blocks {
            draw(&mut block.attention, attention_rows, n_positions);
            draw(&mut block.attention_branch, n_positions, c);
            draw(&mut block.mlp_branch, n_positions, c);
        }
        Dropout::Stored(self)
    }

    fn mask(&self, layer: usize, site: Site) -> DropMask<'_> {
        let mask = match site {
            Site::Embedding => &self.embedding,
            Site::Attention => &self.blocks[layer].attention,
            Site::AttentionBranch => &self.blocks[layer].attention_branch,
            Site::MlpBranch => &self.blocks[layer].mlp_branch,
        };
        let scale = Generator::dropout_scale(self.rate);
        DropMask::stored(&mask.words, mask.rows_per_sequence, mask.columns, scale)
    }
}

impl Mask {
    fn draw(
        &mut self,
        random: &mut Generator,
        rate: f64,
        n_sequences: usize,
        rows_per_sequence: usize,
        columns: usize,
    ) {
        (self.rows_per_sequence, self.columns) = (rows_per_sequence, columns);
        self.words.resize(n_sequences * rows_per_sequence * columns.div_ceil(64), 0);
        random.dropout_bits(rate, columns, &mut self.words);
    }
}
