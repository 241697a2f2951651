//! A sequence of the engine: what was asked for, and how far it is.

use crate::infer::Sampler;
use crate::infer::draft::draft;
use crate::model::PageTable;

/// New tokens that memory is reserved for; the list of a longer text grows.
pub const MAX_RESERVED: usize = 4096;

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

pub(super) struct Sequence {
    pub id: SequenceId,
    pub sampler: Sampler,
    pub slide: Option<usize>,
    pub n_log_probs: Option<usize>,
    /// The prompt and the new tokens.
    pub tokens: Vec<u32>,
    pub n_prompt: usize,
    /// Index of the first token that the model sees: above 0 once the context was full.
    pub start: usize,
    /// Tokens that are tried in the current step.
    pub drafts: Vec<u32>,
    max_tokens: usize,
    ends: Vec<u32>,
    n_drafts: usize,
}

impl Sequence {
    pub fn new(id: SequenceId, request: Request, n_positions: usize) -> Sequence {
        let Request { prompt, sampler, max_tokens, ends, slide, n_log_probs, n_drafts } = request;
        let n_reserved = if slide.is_some() { max_tokens } else { max_tokens.min(n_positions + 1) };
        let mut tokens = Vec::with_capacity(prompt.len().saturating_add(n_reserved.min(MAX_RESERVED)));
        tokens.extend_from_slice(&prompt);
        let drafts = Vec::with_capacity(n_drafts);
        let n_prompt = prompt.len();
        Sequence { id, sampler, slide, n_log_probs, tokens, n_prompt, start: 0, drafts, max_tokens, ends, n_drafts }
    }

    /// The tokens that the model sees.
    pub fn window(&self) -> &[u32] {
        &self.tokens[self.start..]
    }

    /// Number of tokens that have not been passed through the model.
    pub fn n_pending(&self, table: &PageTable) -> usize {
        self.window().len() - table.len()
    }

    /// Drafts up to `most` tokens that may follow.
    pub fn draft(&mut self, most: usize) {
        // The last token of the request is not followed by another.
        let n_left = self.max_tokens.saturating_sub(self.tokens.len() - self.n_prompt);
        draft(&self.tokens, self.n_drafts.min(most).min(n_left.saturating_sub(1)), &mut self.drafts);
    }

    /// Whether all requested tokens are there.
    pub fn is_complete(&self) -> bool {
        self.tokens.len() - self.n_prompt >= self.max_tokens
    }

    /// Why a sequence ends with this token, if it does.
    pub fn finished_by(&self, token: u32) -> Option<FinishReason> {
        if self.ends.contains(&token) {
            return Some(FinishReason::End);
        }
        self.is_complete().then_some(FinishReason::MaxTokens)
    }
}
