//! A sequence of the engine, and how far it is.

use super::event::{Event, TokenLogProbs};
use super::request::{FinishReason, Request, SequenceId};
use crate::infer::draft::draft;
use crate::infer::sampler::{History, LogProbs, Sampler, SamplerScratch};
use crate::model::PageTable;

/// New tokens that memory is reserved for; the list of a longer text grows.
pub const MAX_RESERVED: usize = 4096;

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

    /// Draws the next tokens from rows of logits `[V]`: one, and one more for each drafted token that was right. Returns how
    /// the sequence has ended, if it has.
    pub fn draw<'a>(
        &mut self,
        logits: impl Iterator<Item = &'a [f32]>,
        scratch: &mut SamplerScratch,
        events: &mut Vec<Event>,
    ) -> Option<Event> {
        for (row, logits) in logits.enumerate() {
            let (prompt, generated) = self.tokens.split_at(self.n_prompt);
            let token = match self.sampler.sample(logits, History { prompt, generated }, scratch) {
                Ok(token) => token,
                Err(error) => return Some(Event::Failed { sequence: self.id, error: error.into() }),
            };
            let log_probs = self.n_log_probs.and_then(|n| log_probs(logits, self.sampler.n_vocab(), token, n));
            self.tokens.push(token);
            events.push(Event::Token { sequence: self.id, token, log_probs });
            if let Some(reason) = self.finished_by(token) {
                return Some(Event::Finished { sequence: self.id, reason });
            }
            // The next row's logits are those after the drafted token.
            if self.drafts.get(row) != Some(&token) {
                break;
            }
        }
        None
    }

    /// Why a sequence ends with this token, if it does.
    fn finished_by(&self, token: u32) -> Option<FinishReason> {
        if self.ends.contains(&token) {
            return Some(FinishReason::End);
        }
        self.is_complete().then_some(FinishReason::MaxTokens)
    }
}

/// The log-probability of a token and the `n` most likely ones, among the first `n_vocab`.
fn log_probs(logits: &[f32], n_vocab: usize, token: u32, n: usize) -> Option<TokenLogProbs> {
    // Logits from which a token was drawn are finite.
    let log_probs = LogProbs::of(&logits[..n_vocab.min(logits.len())]).ok()?;
    let mut best = Vec::with_capacity(2 * n);
    log_probs.best(n, &mut best);
    Some(TokenLogProbs { chosen: log_probs.of_token(token), best })
}
