//! The rows of a step and the memory that they are computed in.

use std::borrow::Cow;

use super::limits::EngineLimits;
use super::sequence::Sequence;
use crate::model::{ExtendScratch, Gpt, KvPool, ModelConfig, PageTable, Rows};
use crate::ops::Device;
use crate::tensor::{Alloc, Tensor};

/// One batch: which rows of which sequences, and all memory that the engine allocates.
pub(super) struct Batch {
    pub pool: KvPool,
    rows: Rows,
    scratch: ExtendScratch,
    /// Logits of the wanted rows: the last one of each sequence, and those of drafts.
    logits: Tensor,
    /// New rows of each running sequence.
    n_new: Vec<usize>,
    /// Sequences whose logits are computed.
    drawing: Vec<Drawing>,
}

/// A sequence whose logits are computed.
#[derive(Clone, Copy)]
pub(super) struct Drawing {
    /// Its place among the running sequences.
    pub sequence: usize,
    /// The first row of its logits.
    pub first: usize,
    pub n_rows: usize,
}

impl Batch {
    pub fn new(
        config: &ModelConfig,
        rank: usize,
        n_pages: usize,
        limits: EngineLimits,
        alloc: &mut Alloc<'_>,
    ) -> Batch {
        let (n_rows, n_sequences) = (limits.max_rows, limits.max_sequences);
        Batch {
            pool: KvPool::new(config, n_pages, alloc),
            rows: Rows::with_capacity(n_rows, alloc),
            scratch: ExtendScratch::new(config, n_rows, n_sequences, rank, alloc),
            logits: alloc.zeros([n_sequences + limits.max_drafts, config.vocab_size]),
            n_new: Vec::with_capacity(n_sequences),
            drawing: Vec::with_capacity(n_sequences),
        }
    }

    /// Chooses up to `n_rows` rows: one for each sequence that continues, and up to `n_drafts` drafts of theirs; then the
    /// tokens of prompts, in the order of the sequences.
    pub fn plan(&mut self, sequences: &mut [Sequence], tables: &[PageTable], n_rows: usize, n_drafts: usize) {
        let (mut n_left, n_positions) = (n_rows, self.pool.n_positions());
        let n_continuing = sequences.iter().zip(tables).filter(|(s, table)| s.n_pending(table) == 1).count();
        let mut n_spare = n_drafts.min(n_rows.saturating_sub(n_continuing));
        self.n_new.clear();
        for (sequence, table) in sequences.iter_mut().zip(tables) {
            sequence.drafts.clear();
            let is_continuing = sequence.n_pending(table) == 1 && n_left > 0;
            if is_continuing {
                sequence.draft(n_spare.min(n_positions.saturating_sub(table.len() + 1)));
            }
            let n = if is_continuing { 1 + sequence.drafts.len() } else { 0 };
            n_spare -= sequence.drafts.len();
            n_left -= n;
            self.n_new.push(n);
        }
        for ((sequence, table), n_new) in sequences.iter().zip(tables).zip(&mut self.n_new) {
            if *n_new == 0 {
                *n_new = sequence.n_pending(table).min(n_left);
                n_left -= *n_new;
            }
        }
        self.fill(sequences, tables);
    }

    /// Lists the rows that were chosen.
    fn fill(&mut self, sequences: &[Sequence], tables: &[PageTable]) {
        self.rows.clear();
        self.drawing.clear();
        let mut n_logit_rows = 0;
        for (i, ((sequence, table), &n_new)) in sequences.iter().zip(tables).zip(&self.n_new).enumerate() {
            let pending = &sequence.window()[table.len()..];
            let n_pending = n_new.min(pending.len());
            let is_last = n_new >= pending.len() && n_new > 0;
            for (k, &token) in pending[..n_pending].iter().enumerate() {
                self.rows.push(i, token, is_last && k + 1 == n_pending);
            }
            sequence.drafts.iter().for_each(|&token| self.rows.push(i, token, true));
            if is_last {
                let n_rows = 1 + sequence.drafts.len();
                self.drawing.push(Drawing { sequence: i, first: n_logit_rows, n_rows });
                n_logit_rows += n_rows;
            }
        }
    }

    /// Whether there is nothing to compute.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Pages that the rows need.
    pub fn n_pages(&self, tables: &[PageTable]) -> usize {
        // Sequences stay within the context: the engine has made sure of that.
        let needed = |(table, n): (&PageTable, &usize)| self.pool.n_needed(table, *n).unwrap_or(0);
        tables.iter().zip(&self.n_new).map(needed).sum()
    }

    /// Computes the rows.
    ///
    /// # Panics
    /// If the pool has too few pages, which the engine has checked.
    pub fn run(&mut self, dev: &Device, gpt: &Gpt, tables: &mut [PageTable]) {
        let Batch { pool, rows, scratch, logits, .. } = self;
        if let Err(error) = gpt.extend(dev, rows, tables, pool, logits, scratch) {
            panic!("Engine: {error}");
        }
    }

    /// The sequences whose logits were computed, the logits in this machine's memory, and the pool.
    pub fn results(&mut self, dev: &Device) -> (&[Drawing], Cow<'_, [f32]>, &mut KvPool) {
        (&self.drawing, dev.host_elements(&self.logits), &mut self.pool)
    }
}
