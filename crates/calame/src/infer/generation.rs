//! Generates one sequence, token by token.

use std::ops::Deref;

use super::engine::{Engine, EngineLimits, Event, MAX_RESERVED, Request, engine_bytes};
use super::error::GenerateError;
use super::sampler::Sampler;
use crate::model::{Gpt, ModelConfig};
use crate::ops::Device;

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

/// A generation in progress: an iterator over its new tokens. It is an [`Engine`] with one sequence.
///
/// Borrows the device and the model (`&Device`, `&Gpt`) or shares their ownership (`Arc<Device>`, `Arc<Gpt>`).
pub struct Generation<D, G> {
    engine: Engine<D, G>,
    tokens: Vec<u32>,
    state: State,
}

/// Whether more tokens follow.
enum State {
    Running,
    Finished,
    Failed(GenerateError),
}

/// Memory in bytes that [`Generation::new`] allocates for a model with adapters of up to `rank` (0 without any), excluding the
/// tokens themselves.
pub fn generation_bytes(config: &ModelConfig, rank: usize, n_prompt: usize, max_tokens: usize) -> u64 {
    engine_bytes(config, rank, EngineLimits::for_sequences(config, 1, n_prompt, max_tokens))
}

impl<D: Deref<Target = Device>, G: Deref<Target = Gpt>> Generation<D, G> {
    /// Starts a generation that continues `prompt`.
    ///
    /// # Errors
    /// If the prompt is empty, exceeds the model's context, or contains ids outside the model's vocabulary.
    pub fn new(
        dev: D,
        gpt: G,
        prompt: &[u32],
        sampler: Sampler,
        limits: GenerationLimits,
    ) -> Result<Generation<D, G>, GenerateError> {
        let engine_limits = EngineLimits::for_sequences(&gpt.config, 1, prompt.len(), limits.max_tokens);
        let mut engine = Engine::new(dev, gpt, engine_limits)?;
        let request =
            Request { slide: Some(limits.slide), ..Request::new(prompt.to_vec(), sampler, limits.max_tokens) };
        engine.add(request)?;
        let mut tokens = Vec::with_capacity(prompt.len() + limits.max_tokens.min(MAX_RESERVED));
        tokens.extend_from_slice(prompt);
        Ok(Generation { engine, tokens, state: State::Running })
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
        loop {
            match &self.state {
                State::Running => {}
                State::Finished => return Ok(None),
                State::Failed(error) => return Err(error.clone()),
            }
            let mut drawn = None;
            for event in self.engine.step() {
                match event {
                    Event::Token { token, .. } => drawn = Some(*token),
                    Event::Finished { .. } => self.state = State::Finished,
                    Event::Failed { error, .. } => self.state = State::Failed(error.clone()),
                }
            }
            if let Some(token) = drawn {
                self.tokens.push(token);
                return Ok(Some(token));
            }
        }
    }
}

impl<D: Deref<Target = Device>, G: Deref<Target = Gpt>> Iterator for Generation<D, G> {
    type Item = Result<u32, GenerateError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_token().transpose()
    }
}
