//! The sizes of an engine.

use crate::model::{ModelConfig, kv_page_bytes};

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
    /// Limits for a model: a memory for keys and values of `kv_bytes`, and as many rows and sequences as suit it.
    pub fn of(kv_bytes: u64) -> EngineLimits {
        EngineLimits { max_rows: 256, max_sequences: 64, max_drafts: 16, kv_bytes }
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
