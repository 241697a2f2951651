//! Generates one sequence, token by token.

use std::ops::Deref;

use super::{History, Sampler, SamplerError, SamplerScratch};
use crate::model::{ExtendScratch, Gpt, KvError, KvPool, ModelConfig, PageTable, Rows, n_pages};
use crate::ops::{self, Device};
use crate::tensor::{Alloc, Tensor};

/// Tokens of a prompt that are passed through the model at a time; bounds the scratch memory of a long prompt.
const CHUNK: usize = 256;
/// New tokens that memory is reserved for; the list of a longer text grows.
const MAX_RESERVED: usize = 1 << 20;

/// Why a prompt cannot be continued.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum GenerateError {
    /// The prompt contains no token.
    #[error("the prompt is empty: give at least one token to continue from")]
    EmptyPrompt,
    /// The prompt exceeds the model's context.
    #[error("the prompt has {n_tokens} tokens, the model's context is {n_positions}: shorten it, or keep only its end")]
    PromptTooLong {
        /// Number of tokens in the prompt.
        n_tokens: usize,
        /// Number of positions in the model's context.
        n_positions: usize,
    },
    /// The prompt contains an id outside the model's vocabulary.
    #[error("token {id} is not one of the model's {vocab_size}: was the prompt encoded by another tokenizer?")]
    UnknownToken {
        /// The invalid token id.
        id: u32,
        /// V, the model's vocabulary size.
        vocab_size: usize,
    },
    /// The sampler cannot draw a token.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// The pool has no page left for keys and values.
    #[error(transparent)]
    Kv(#[from] KvError),
}

/// Length limits of a generation, which determine its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenerationLimits {
    /// Maximum number of tokens added to the prompt.
    pub max_tokens: usize,
    /// Number of tokens dropped at a time once the context is full. Keys and values depend on the position, so
    /// the remaining tokens are computed again. With 1 every token sees the longest possible context, as in the
    /// book's loop; larger values are proportionally faster.
    pub slide: usize,
}

/// A generation in progress: an iterator over its new tokens.
///
/// Borrows the device and the model (`&Device`, `&Gpt`) or shares their ownership (`Arc<Device>`, `Arc<Gpt>`).
pub struct Generation<D, G> {
    dev: D,
    gpt: G,
    sampler: Sampler,
    limits: GenerationLimits,
    tokens: Vec<u32>,
    n_prompt: usize,
    /// Number of leading tokens that are in the KV pages or dropped; the others have not been passed through
    /// the model yet.
    n_fed: usize,
    buffers: Buffers,
    sampler_scratch: SamplerScratch,
}

/// All memory that a generation allocates.
struct Buffers {
    pool: KvPool,
    table: [PageTable; 1],
    rows: Rows,
    /// Logits of the last token `[V]`, on the device and in host memory.
    logits: Tensor,
    host_logits: Vec<f32>,
    scratch: ExtendScratch,
}

impl Buffers {
    fn new(config: &ModelConfig, rank: usize, n_prompt: usize, max_tokens: usize, alloc: &mut Alloc<'_>) -> Buffers {
        let n_seen = n_prompt.saturating_add(max_tokens).min(config.n_positions);
        let pool = KvPool::new(config, n_pages(n_seen), alloc);
        // Once the context is full, the remaining tokens are computed again in chunks.
        let is_sliding = n_prompt.saturating_add(max_tokens) > config.n_positions;
        let n_rows = CHUNK.min(if is_sliding { config.n_positions } else { n_prompt.clamp(1, config.n_positions) });
        Buffers {
            table: [pool.new_table()],
            pool,
            rows: Rows::with_capacity(n_rows, alloc),
            logits: alloc.zeros([1, config.vocab_size]),
            host_logits: alloc.list(config.vocab_size),
            scratch: ExtendScratch::new(config, n_rows, 1, rank, alloc),
        }
    }
}

/// Memory in bytes that [`Generation::new`] allocates for a model with adapters of up to `rank` (0 without any), excluding the
/// tokens themselves.
pub fn generation_bytes(config: &ModelConfig, rank: usize, n_prompt: usize, max_tokens: usize) -> u64 {
    let mut alloc = Alloc::counting();
    Buffers::new(config, rank, n_prompt, max_tokens, &mut alloc);
    alloc.bytes()
}

impl<D: Deref<Target = Device>, G: Deref<Target = Gpt>> Generation<D, G> {
    /// Starts a generation that continues `prompt`.
    ///
    /// # Errors
    /// If the prompt is empty, exceeds the model's context, or contains ids outside the model's vocabulary; if the
    /// sampler's rules name such an id.
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
        sampler.check(config.vocab_size)?;
        let limits = GenerationLimits { slide: limits.slide.clamp(1, config.n_positions), ..limits };
        let mut alloc = Alloc::on(&dev);
        let buffers = Buffers::new(config, gpt.rank(), prompt.len(), limits.max_tokens, &mut alloc);
        let n_prompt = prompt.len();
        let mut tokens = Vec::with_capacity(n_prompt + limits.max_tokens.min(MAX_RESERVED));
        tokens.extend_from_slice(prompt);
        let sampler_scratch = SamplerScratch::default();
        Ok(Generation { dev, gpt, sampler, limits, tokens, n_prompt, n_fed: 0, buffers, sampler_scratch })
    }

    /// The prompt followed by the generated tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Draws the next token and appends it; returns `None` after `max_tokens`.
    ///
    /// # Errors
    /// If the logits are not finite, or the sampler's rules forbid every token.
    pub fn next_token(&mut self) -> Result<Option<u32>, GenerateError> {
        if self.tokens.len() - self.n_prompt >= self.limits.max_tokens {
            return Ok(None);
        }
        self.feed()?;
        let Buffers { logits, host_logits, .. } = &mut self.buffers;
        ops::read_into(&self.dev, logits, host_logits);
        let (prompt, generated) = self.tokens.split_at(self.n_prompt);
        let token = self.sampler.sample(host_logits, History { prompt, generated }, &mut self.sampler_scratch)?;
        self.tokens.push(token);
        Ok(Some(token))
    }

    /// Passes the pending tokens through the model, which leaves the logits of the last one in the buffers.
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
            for (i, &token) in chunk.iter().enumerate() {
                rows.push(0, token, self.n_fed + i + 1 == end);
            }
            self.gpt.extend(&self.dev, rows, table, pool, logits, scratch)?;
            self.n_fed += chunk.len();
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
