//! What an engine is asked for.

use crate::infer::sampler::Sampler;

/// Identifies a sequence of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub(super) u64);

/// A sequence to generate.
#[derive(Clone, Debug)]
pub struct Request {
    /// The tokens to continue from.
    pub prompt: Vec<u32>,
    /// Draws the tokens, with a random sequence of its own.
    pub sampler: Sampler,
    /// Maximum number of new tokens.
    pub max_tokens: usize,
    /// The ids of which any one ends the sequence.
    pub ends: Vec<u32>,
    /// Number of tokens dropped at a time once the model's context is full; `None` ends the sequence there. The remaining
    /// tokens are computed again, because keys and values depend on the position.
    pub slide: Option<usize>,
    /// Reports log-probabilities, with so many alternatives.
    pub n_log_probs: Option<usize>,
    /// Tokens to draft at a time: what followed the latest tokens earlier in the sequence is tried next, and several tokens
    /// are computed in one step where it was right. The tokens stay the same. 0 drafts none.
    pub n_drafts: usize,
}

impl Request {
    /// A sequence without anything special: it ends after `max_tokens` or with the model's context.
    pub fn new(prompt: Vec<u32>, sampler: Sampler, max_tokens: usize) -> Request {
        Request { prompt, sampler, max_tokens, ends: Vec::new(), slide: None, n_log_probs: None, n_drafts: 0 }
    }
}

/// Why a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// A token that ends texts was drawn.
    End,
    /// The requested number of tokens was drawn.
    MaxTokens,
    /// The model's context is full.
    Context,
}
