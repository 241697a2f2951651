//! One text, token by token.

use super::{Sampler, SamplerError};
use crate::model::{ExtendScratch, Gpt, KvCache, Rows};
use crate::ops::Device;
use crate::tensor::Tensor;

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
}

/// A text under way: the tokens so far and what the model keeps of them.
///
/// Past the model's context it goes on over a sliding window: the oldest `slide` tokens are dropped at a time, and since a
/// token's keys and values depend on its position, what is left goes through the model again. With `slide` = 1 every token
/// sees as much as it can, as the book's loop has it; a larger one is that much faster.
pub struct Generation<'a> {
    dev: &'a Device,
    gpt: &'a Gpt,
    sampler: Sampler,
    slide: usize,
    tokens: Vec<u32>,
    /// Tokens that the cache holds: those before are forgotten, those after still to be fed.
    fed: usize,
    kv: KvCache,
    rows: Rows,
    logits: Tensor,
    scratch: ExtendScratch,
}

impl<'a> Generation<'a> {
    /// A text that begins with `prompt`.
    ///
    /// # Errors
    /// If the prompt is empty, longer than the model's context, or has tokens that the model does not have.
    pub fn new(
        dev: &'a Device,
        gpt: &'a Gpt,
        prompt: &[u32],
        sampler: Sampler,
        slide: usize,
    ) -> Result<Generation<'a>, GenerateError> {
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
        Ok(Generation {
            dev,
            gpt,
            sampler,
            slide: slide.clamp(1, config.n_positions),
            tokens: prompt.to_vec(),
            fed: 0,
            kv: KvCache::new(config, 1),
            rows: Rows::new(),
            logits: Tensor::zeros([1, config.vocab_size]),
            scratch: ExtendScratch::new(config, CHUNK.min(config.n_positions)),
        })
    }

    /// The prompt and what was added.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Draws the next token and adds it.
    ///
    /// # Errors
    /// If the logits are not finite.
    pub fn next_token(&mut self) -> Result<u32, GenerateError> {
        self.feed();
        let token = self.sampler.sample(self.logits.as_slice())?;
        self.tokens.push(token);
        Ok(token)
    }

    /// Brings the cache up to the last token, whose logits are then there.
    fn feed(&mut self) {
        let n_positions = self.gpt.config.n_positions;
        if self.kv.len(0) + self.tokens.len() - self.fed > n_positions {
            self.kv.clear(0);
            self.fed = self.tokens.len() - (n_positions + 1 - self.slide);
        }
        let end = self.tokens.len();
        for chunk in self.tokens[self.fed..].chunks(self.scratch.max_rows()) {
            self.rows.clear();
            for &token in chunk {
                self.fed += 1;
                self.rows.push(0, token, self.fed == end);
            }
            self.gpt.extend(self.dev, &mut self.rows, &mut self.kv, &mut self.logits, &mut self.scratch);
        }
    }
}
