//! Inference: new tokens of any sequences, over the keys and values that the pool keeps of them.
//!
//! A prompt, a chunk of one, one token each of many sequences are the same call. A row's logits do not depend on the other
//! rows of the call or on how its prompt was split.

use super::attention::Attend;
use super::block::{BlockSaved, ForwardScratch};
use super::dropout::Dropout;
use super::kv_pool::{KvError, KvPool, PAGE_LEN, PageTable, n_pages};
use super::layer_norm::LayerNormSaved;
use super::{Gpt, ModelConfig};
use crate::ops::{self, Device, Epilogue, KvRows, Phase};
use crate::tensor::{Alloc, Tensor};

/// The new tokens of one call: which sequence each belongs to, in the order of its positions.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    tokens: Vec<u32>,
    sequences: Vec<u32>,
    /// Rows whose logits are wanted.
    wanted: Vec<u32>,
}

impl Rows {
    /// A call without rows, to which they are added.
    pub fn new() -> Rows {
        Rows::default()
    }

    /// None yet, with the capacity for `n_rows`.
    pub fn with_capacity(n_rows: usize, alloc: &mut Alloc<'_>) -> Rows {
        let mut rows = Rows { tokens: alloc.list(n_rows), sequences: alloc.list(n_rows), wanted: alloc.list(n_rows) };
        rows.clear();
        rows
    }

    /// Removes all rows; the capacity stays.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.sequences.clear();
        self.wanted.clear();
    }

    /// Adds the next token of a sequence, by its place among the call's page tables; `wanted` asks for the logits that
    /// follow it.
    pub fn push(&mut self, sequence: usize, token: u32, wanted: bool) {
        if wanted {
            self.wanted.push(self.tokens.len() as u32);
        }
        self.tokens.push(token);
        self.sequences.push(sequence as u32);
    }

    /// Number of rows, over all sequences.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

/// Ids that say where the rows of a call belong, on the device and in this machine's memory.
#[derive(Debug)]
struct Places {
    tokens: Tensor,
    sequences: Tensor,
    positions: Tensor,
    wanted: Tensor,
    table: Tensor,
    starts: Tensor,
    host_positions: Vec<u32>,
    host_table: Vec<u32>,
    host_starts: Vec<u32>,
    /// New positions of each sequence in this call.
    n_new: Vec<u32>,
}

/// Work space of inference.
#[derive(Debug)]
pub struct ExtendScratch {
    x: Tensor,
    y: Tensor,
    block: BlockSaved,
    forward: ForwardScratch,
    ln_f: LayerNormSaved,
    /// The hidden states whose logits are wanted.
    last: Tensor,
    places: Places,
}

impl ExtendScratch {
    /// For calls of up to `n_rows` rows of up to `n_sequences` sequences, and adapters of up to `rank`.
    pub fn new(
        config: &ModelConfig,
        n_rows: usize,
        n_sequences: usize,
        rank: usize,
        alloc: &mut Alloc<'_>,
    ) -> ExtendScratch {
        let n_entries = n_sequences * n_pages(config.n_positions);
        let mut matrix = || alloc.zeros([n_rows, config.n_embd]);
        let (x, y, last) = (matrix(), matrix(), matrix());
        let mut ids = |n: usize| alloc.ids([n]);
        let places = Places {
            tokens: ids(n_rows),
            sequences: ids(n_rows),
            positions: ids(n_rows),
            wanted: ids(n_rows),
            table: ids(n_entries),
            starts: ids(n_sequences),
            host_positions: alloc.list(n_rows),
            host_table: alloc.list(n_entries),
            host_starts: alloc.list(n_sequences),
            n_new: alloc.list(n_sequences),
        };
        ExtendScratch {
            x,
            y,
            block: BlockSaved::new(config, 1, n_rows, alloc),
            forward: ForwardScratch::new(config, n_rows, rank, alloc),
            ln_f: LayerNormSaved::new(n_rows, alloc),
            last,
            places,
        }
    }

    /// Rows that a call may have.
    pub fn max_rows(&self) -> usize {
        self.places.tokens.capacity()
    }

    fn set_rows(&mut self, n: usize) {
        self.x.set_rows(n);
        self.y.set_rows(n);
        self.block.set_batch(1, n);
        self.forward.set_rows(n);
        self.ln_f.set_rows(n);
    }
}

impl Places {
    /// Gives every row its position, once it is certain that all of them fit, and copies the ids to the device.
    fn load(&mut self, dev: &Device, rows: &Rows, tables: &mut [PageTable], pool: &mut KvPool) -> Result<(), KvError> {
        self.n_new.clear();
        self.n_new.resize(tables.len(), 0);
        rows.sequences.iter().for_each(|&sequence| self.n_new[sequence as usize] += 1);
        let mut n_needed = 0;
        for (table, &n_new) in tables.iter().zip(&self.n_new) {
            n_needed += pool.n_needed(table, n_new as usize)?;
        }
        if n_needed > pool.n_free() {
            return Err(KvError::OutOfPages { n_needed, n_free: pool.n_free() });
        }
        let (host_table, host_starts) = (&mut self.host_table, &mut self.host_starts);
        host_table.clear();
        host_starts.clear();
        for (table, n_new) in tables.iter_mut().zip(&mut self.n_new) {
            // From here on the position of the sequence's next row.
            *n_new = pool.grow(dev, table, *n_new as usize)? as u32;
            host_starts.push(host_table.len() as u32);
            host_table.extend_from_slice(table.pages());
        }
        self.host_positions.clear();
        for &sequence in &rows.sequences {
            let next = &mut self.n_new[sequence as usize];
            self.host_positions.push(*next);
            *next += 1;
        }
        for (ids, tensor) in [
            (&rows.tokens, &mut self.tokens),
            (&rows.sequences, &mut self.sequences),
            (&self.host_positions, &mut self.positions),
            (&rows.wanted, &mut self.wanted),
            (&self.host_table, &mut self.table),
            (&self.host_starts, &mut self.starts),
        ] {
            tensor.set_rows(ids.len());
            ops::write_ids(dev, ids, tensor);
        }
        Ok(())
    }

    fn rows(&self) -> KvRows<'_> {
        let Places { table, starts, sequences, positions, .. } = self;
        KvRows { page_len: PAGE_LEN, table, starts, sequences, positions }
    }
}

impl Gpt {
    /// Logits [wanted rows, V] after new tokens, whose keys and values join the pages of their sequences; `logits` has the
    /// capacity for that many rows.
    ///
    /// # Errors
    /// If the pool has too few pages or a sequence outgrows the model's context; nothing has changed then.
    ///
    /// # Panics
    /// If there are no rows, or more rows or page tables than `scratch` was created for; if a row's sequence has no table, a token
    /// is outside the vocabulary, or `logits` has not the capacity.
    pub fn extend(
        &self,
        dev: &Device,
        rows: &Rows,
        tables: &mut [PageTable],
        pool: &mut KvPool,
        logits: &mut Tensor,
        scratch: &mut ExtendScratch,
    ) -> Result<(), KvError> {
        let (n_rows, max_rows, n_tables) = (rows.len(), scratch.max_rows(), tables.len());
        assert!(n_rows > 0 && n_rows <= max_rows, "Gpt::extend: {n_rows} rows, expected 1 to {max_rows}");
        if let Some(sequence) = rows.sequences.iter().find(|&&sequence| sequence as usize >= n_tables) {
            panic!("Gpt::extend: a row of sequence {sequence}, there are {n_tables} page tables");
        }
        let (max_tables, v) = (scratch.places.starts.capacity(), self.config.vocab_size);
        assert!(n_tables <= max_tables, "Gpt::extend: {n_tables} page tables, expected at most {max_tables}");
        if let Some(token) = rows.tokens.iter().find(|&&token| token as usize >= v) {
            panic!("Gpt::extend: token {token} is not one of the model's {v}");
        }
        let n_wanted = rows.wanted.len();
        assert!(n_wanted * v <= logits.capacity(), "Gpt::extend: {n_wanted} rows of logits [{v}] into {logits:?}");
        scratch.places.load(dev, rows, tables, pool)?;
        scratch.set_rows(rows.len());
        let ExtendScratch { x, y, block: saved, forward, ln_f, last, places } = scratch;
        ops::embedding_forward(dev, &places.tokens, &places.positions, &self.wte, &self.wpe, x);
        for (i, block) in self.h.iter().enumerate() {
            let (keys, values) = pool.layer_mut(i);
            let attend = Attend::Pages { rows: places.rows(), keys, values };
            block.forward(dev, i, x, attend, &Dropout::Off, y, saved, forward);
            std::mem::swap(x, y);
        }
        if rows.wanted.is_empty() {
            return Ok(());
        }
        self.ln_f.forward(dev, x, y, ln_f);
        last.set_rows(rows.wanted.len());
        ops::gather_rows(dev, y, &places.wanted, last);
        logits.set_rows(rows.wanted.len());
        let (no_bias, to) = (Tensor::absent(), logits.view_mut());
        ops::linear_forward(dev, Phase::HeadForward, last.view(), self.head(), &no_bias, false, to, Epilogue::None);
        Ok(())
    }
}
