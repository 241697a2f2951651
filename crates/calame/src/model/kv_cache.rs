//! Keys and values of what a sequence has seen, kept for decoding.
//!
//! Positions live in pages that a table deals to sequences, so that sequences of different lengths share one store
//! (W. Kwon et al., "Efficient memory management for large language model serving with PagedAttention", 2023). A sequence
//! takes a page when it grows into it and gives its pages back when it is cleared.

use super::ModelConfig;
use crate::ops::KvPages;
use crate::tensor::Tensor;

/// Positions in a page.
const PAGE_LEN: usize = 64;
/// In the table: no page yet.
const NO_PAGE: u32 = u32::MAX;

/// The kept keys and values of several sequences, in every layer.
#[derive(Debug)]
pub struct KvCache {
    /// One store [n_pages · PAGE_LEN, C] for each layer.
    keys: Vec<Tensor>,
    values: Vec<Tensor>,
    table: Vec<u32>,
    /// Where each sequence's part of the table begins.
    starts: Vec<u32>,
    pages_per_sequence: usize,
    /// The model's context; the last page may reach beyond it.
    n_positions: usize,
    free: Vec<u32>,
    lengths: Vec<usize>,
}

/// Bytes of keys and values that a sequence of `n_positions` tokens touches: whole pages of every layer.
pub(super) fn touched_bytes(config: &ModelConfig, n_positions: usize) -> u64 {
    let n_rows = n_positions.next_multiple_of(PAGE_LEN) as u64;
    2 * 4 * n_rows * (config.n_layer * config.n_embd) as u64
}

impl KvCache {
    /// Room for `n_sequences` sequences of up to the model's context.
    pub fn new(config: &ModelConfig, n_sequences: usize) -> KvCache {
        let pages_per_sequence = config.n_positions.div_ceil(PAGE_LEN);
        let n_pages = n_sequences * pages_per_sequence;
        let store = || (0..config.n_layer).map(|_| Tensor::zeros([n_pages * PAGE_LEN, config.n_embd])).collect();
        KvCache {
            keys: store(),
            values: store(),
            table: vec![NO_PAGE; n_pages],
            starts: (0..n_sequences).map(|s| (s * pages_per_sequence) as u32).collect(),
            pages_per_sequence,
            n_positions: config.n_positions,
            free: (0..n_pages as u32).rev().collect(),
            lengths: vec![0; n_sequences],
        }
    }

    /// Positions that a sequence has.
    pub fn len(&self, sequence: usize) -> usize {
        self.lengths[sequence]
    }

    /// Whether no sequence has any.
    pub fn is_empty(&self) -> bool {
        self.lengths.iter().all(|&n| n == 0)
    }

    /// Forgets a sequence; its pages are free again.
    pub fn clear(&mut self, sequence: usize) {
        self.truncate(sequence, 0);
    }

    /// Forgets all positions of a sequence from `len` on.
    pub fn truncate(&mut self, sequence: usize, len: usize) {
        let from = sequence * self.pages_per_sequence;
        for page in &mut self.table[from + len.div_ceil(PAGE_LEN)..from + self.pages_per_sequence] {
            if *page != NO_PAGE {
                self.free.push(*page);
                *page = NO_PAGE;
            }
        }
        self.lengths[sequence] = self.lengths[sequence].min(len);
    }

    /// Makes room for a sequence's next position and returns it.
    ///
    /// # Panics
    /// If the sequence is as long as the model's context.
    pub(super) fn grow(&mut self, sequence: usize) -> usize {
        let position = self.lengths[sequence];
        assert!(
            position < self.n_positions,
            "KvCache: sequence {sequence} is full: it has all {} positions of the model's context",
            self.n_positions
        );
        let place = sequence * self.pages_per_sequence + position / PAGE_LEN;
        if self.table[place] == NO_PAGE {
            // There are as many pages as places in the table.
            self.table[place] = self.free.pop().expect("KvCache: more places than pages");
        }
        self.lengths[sequence] += 1;
        position
    }

    /// The pages together with one layer's stores.
    pub(super) fn layer_mut(&mut self, layer: usize) -> (KvPages<'_>, &mut Tensor, &mut Tensor) {
        let pages = KvPages { page_len: PAGE_LEN, table: &self.table, starts: &self.starts };
        (pages, &mut self.keys[layer], &mut self.values[layer])
    }
}
