//! One text, token by token.

use std::ops::Deref;

use super::{Sampler, SamplerError};
use crate::model::{ExtendScratch, Gpt, KvError, KvPool, ModelConfig, PageTable, Rows, n_pages};
use crate::ops::{self, Device};
use crate::tensor::{Alloc, Tensor};

/// Tokens of a prompt that go through the model at a time.
const CHUNK: usize = 256;

/// Why a text cannot be continued.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum GenerateError {
    /// Nothing to continue.
    #[error("the prompt is empty: give at least one token to continue from")]
    EmptyPrompt,
    /// More than the model can see.
    #[error("the prompt has {n_tokens} tokens, the model's context is {n_positions}: shorten it, or keep only its end")]
    PromptTooLong {
        /// Of the prompt.
        n_tokens: usize,
        /// Of the model.
        n_positions: usize,
    },
    /// A token that the model does not have.
    #[error("token {id} is not one of the model's {vocab_size}: was the prompt encoded by another tokenizer?")]
    UnknownToken {
        /// The token.
        id: u32,
        /// V.
        vocab_size: usize,
    },
    /// No token can be drawn.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// Keys and values have no place.
    #[error(transparent)]
    Kv(#[from] KvError),
}

/// How long a text may become, which decides the memory that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenerationLimits {
    /// The most tokens that are added to the prompt.
    pub max_tokens: usize,
    /// Tokens that are dropped at a time past the model's context. Since the keys and values of a token depend on its
    /// position, what is left goes through the model again: with 1 every token sees as much as it can, as in the book's
    /// loop; a larger one is that much faster.
    pub slide: usize,
}

/// A text in progress: an iterator over its new tokens.
///
/// It borrows the device and the model (`&Device`, `&Gpt`) or owns a share of them (`Arc<Device>`, `Arc<Gpt>`).
pub struct Generation<D, G> {
    dev: D,
    gpt: G,
    sampler: Sampler,
    limits: GenerationLimits,
    tokens: Vec<u32>,
    n_prompt: usize,
    /// Tokens that are in the pages or dropped; the rest still go through the model.
    n_fed: usize,
    buffers: Buffers,
}

/// Everything that a generation allocates.
struct Buffers {
    pool: KvPool,
    table: [PageTable; 1],
    rows: Rows,
    /// The logits of the last token, on the device and in this machine's memory.
    logits: Tensor,
    host_logits: Vec<f32>,
    scratch: ExtendScratch,
}

impl Buffers {
    fn new(config: &ModelConfig, rank: usize, n_prompt: usize, max_tokens: usize, alloc: &mut Alloc<'_>) -> Buffers {
        let n_seen = n_prompt.saturating_add(max_tokens).min(config.n_positions);
        let pool = KvPool::new(config, n_pages(n_seen), alloc);
        // Past the context what is left goes through the model again, in chunks.
        let is_sliding = n_prompt.saturating_add(max_tokens) > config.n_positions;
        let n_rows = CHUNK.min(if is_sliding { config.n_positions } else { n_prompt.clamp(1, config.n_positions) });
        Buffers {
            table: [pool.new_table()],
            pool,
            rows: Rows::new(),
            logits: alloc.zeros([1, config.vocab_size]),
            host_logits: alloc.list(config.vocab_size),
            scratch: ExtendScratch::new(config, n_rows, 1, rank, alloc),
        }
    }
}

/// Bytes that a text takes while it is written: what [`Generation::new`] allocates, but for the tokens themselves.
pub fn generation_bytes(config: &ModelConfig, n_prompt: usize, max_tokens: usize) -> u64 {
    let mut alloc = Alloc::counting();
    Buffers::new(config, 0, n_prompt, max_tokens, &mut alloc);
    alloc.bytes()
}

impl<D: Deref<Target = Device>, G: Deref<Target = Gpt>> Generation<D, G> {
    /// A text that begins with `prompt`.
    ///
    /// # Errors
    /// If the prompt is empty, longer than the model's context, or has tokens that the model does not have.
    pub fn new(
        dev: D,
        gpt: G,
        prompt: &[u32],
        sampler: Sampler,
        limits: GenerationLimits,
    ) -> Result<Generation<D, G>, GenerateError> {
        let config = &gpt.config;
        if prompt.is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        if prompt.len() > config.n_positions {
            let (n_tokens, n_positions) = (prompt.len(), config.n_positions);
            return Err(GenerateError::PromptTooLong { n_tokens, n_positions });
        }
        if let Some(&id) = prompt.iter().find(|&&id| id as usize >= config.vocab_size) {
            return Err(GenerateError::UnknownToken { id, vocab_size: config.vocab_size });
        }
        let limits = GenerationLimits { slide: limits.slide.clamp(1, config.n_positions), ..limits };
        let mut alloc = Alloc::on(&dev);
        let buffers = Buffers::new(config, gpt.rank(), prompt.len(), limits.max_tokens, &mut alloc);
        let (tokens, n_prompt) = (prompt.to_vec(), prompt.len());
        Ok(Generation { dev, gpt, sampler, limits, tokens, n_prompt, n_fed: 0, buffers })
    }

    /// The prompt and what was added.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Draws the next token and adds it; None after `max_tokens`.
    ///
    /// # Errors
    /// If the logits are not finite.
    pub fn next_token(&mut self) -> Result<Option<u32>, GenerateError> {
        if self.tokens.len() - self.n_prompt >= self.limits.max_tokens {
            return Ok(None);
        }
        self.feed()?;
        let Buffers { logits, host_logits, .. } = &mut self.buffers;
        ops::read_into(&self.dev, logits, host_logits);
        let token = self.sampler.sample(host_logits)?;
        self.tokens.push(token);
        Ok(Some(token))
    }

    /// Passes the tokens up to the last one through the model; its logits are available then.
    fn feed(&mut self) -> Result<(), KvError> {
        let Buffers { pool, table, rows, logits, scratch, .. } = &mut self.buffers;
        let n_positions = self.gpt.config.n_positions;
        if table[0].len() + self.tokens.len() - self.n_fed > n_positions {
            pool.release(&mut table[0]);
            self.n_fed = self.tokens.len() - (n_positions + 1 - self.limits.slide);
        }
        let end = self.tokens.len();
        for chunk in self.tokens[self.n_fed..].chunks(scratch.max_rows()) {
            rows.clear();
            for &token in chunk {
                self.n_fed += 1;
                rows.push(0, token, self.n_fed == end);
            }
            self.gpt.extend(&self.dev, rows, table, pool, logits, scratch)?;
        }
        Ok(())
    }
}

impl<D: Deref<Target = Device>, G: Deref<Target = Gpt>> Iterator for Generation<D, G> {
    type Item = Result<u32, GenerateError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_token().transpose()
    }
}
