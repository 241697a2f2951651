//! The sizes of an engine.

use crate::model::{ModelConfig, kv_page_bytes, n_pages};

/// Rows of a batch, unless there are more sequences: enough for the arithmetic of a prompt, and few enough that the others
/// wait for milliseconds.
const MAX_ROWS: usize = 256;

/// The sizes of an engine, which determine its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineLimits {
    /// Rows of a batch at most. More rows make prompts faster, fewer keep the steps of running sequences short.
    pub max_rows: usize,
    /// Sequences that run at the same time at most; further ones wait.
    pub max_sequences: usize,
    /// Drafted tokens of a batch at most, each of which takes a row and its logits.
    pub max_drafts: usize,
    /// Memory for keys and values in bytes, which is never exceeded.
    pub kv_bytes: u64,
}

impl EngineLimits {
    /// Limits for `n_sequences` at the same time, each with a prompt of up to `n_prompt` tokens and up to `max_tokens` new
    /// ones: pages for all of them. Longer texts than the model's context are computed within it.
    pub fn for_sequences(config: &ModelConfig, n_sequences: usize, n_prompt: usize, max_tokens: usize) -> EngineLimits {
        let n_tokens = n_prompt.saturating_add(max_tokens);
        let n_seen = n_tokens.clamp(1, config.n_positions);
        // Past the context, the remaining tokens are computed again in chunks.
        let n_at_once = if n_tokens > config.n_positions { n_seen } else { n_prompt };
        let max_sequences = n_sequences.max(1);
        let n_pages = (max_sequences as u64).saturating_mul(n_pages(n_seen) as u64);
        EngineLimits {
            max_rows: n_at_once.clamp(max_sequences, MAX_ROWS.max(max_sequences)),
            max_sequences,
            max_drafts: 0,
            kv_bytes: n_pages.saturating_mul(kv_page_bytes(config)),
        }
    }

    /// The limits with up to `n` drafted tokens in a batch, in rows of their own.
    #[must_use]
    pub fn with_drafts(self, n: usize) -> EngineLimits {
        EngineLimits { max_drafts: n, max_rows: self.max_rows + n, ..self }
    }

    /// Pages that the memory for keys and values holds.
    pub(super) fn n_pages(&self, config: &ModelConfig) -> usize {
        usize::try_from(self.kv_bytes / kv_page_bytes(config)).unwrap_or(usize::MAX)
    }

    /// The limits with at least one sequence, and a row for each.
    pub(super) fn settled(self) -> EngineLimits {
        let max_sequences = self.max_sequences.max(1);
        let max_rows = self.max_rows.max(max_sequences);
        EngineLimits { max_sequences, max_rows, max_drafts: self.max_drafts.min(max_rows - 1), ..self }
    }
}
