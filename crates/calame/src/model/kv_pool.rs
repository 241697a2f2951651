//! Keys and values of what sequences have seen, kept for inference.
//!
//! Positions are stored in pages of a pool, and each sequence holds a table of its pages, so that sequences of different
//! lengths share one store and a common prefix is stored once (W. Kwon et al., "Efficient memory management for large
//! language model serving with PagedAttention", 2023). A page counts the tables that name it; a sequence that grows into a
//! shared page copies it first.

use super::ModelConfig;
use crate::ops::{self, Device};
use crate::tensor::{Alloc, Tensor};

/// Positions in a page.
pub const PAGE_LEN: usize = 64;

/// Pages of keys and values, of every layer.
#[derive(Debug)]
pub struct KvPool {
    /// For each layer a store of n_pages · PAGE_LEN · C elements, whose pages are [NH, HS, PAGE_LEN].
    keys: Vec<Tensor>,
    /// The same, whose pages are [NH, PAGE_LEN, HS].
    values: Vec<Tensor>,
    /// Tables that name each page.
    n_references: Vec<u32>,
    /// Pages that no table names.
    free: Vec<u32>,
    /// The model's context; the last page of a sequence may reach beyond it.
    n_positions: usize,
}

/// The pages of one sequence, in the order of its positions.
///
/// A table gives its pages back by [`KvPool::release`] only; one that is dropped takes them out of use.
#[derive(Debug, Default)]
pub struct PageTable {
    pages: Vec<u32>,
    len: usize,
}

/// Why sequences cannot grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// All pages are in use.
    #[error("{n_needed} pages of keys and values are needed, {n_free} are free: end or evict a sequence")]
    OutOfPages {
        /// Pages that the new tokens need.
        n_needed: usize,
        /// Pages that no sequence has.
        n_free: usize,
    },
    /// The sequence is as long as the model's context.
    #[error("a sequence of {len} tokens grows by {n_new}: the model's context is {n_positions}")]
    ContextFull {
        /// Positions that it has.
        len: usize,
        /// Positions that it was to get.
        n_new: usize,
        /// Positions of the model's context.
        n_positions: usize,
    },
}

impl PageTable {
    /// Positions that the sequence has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the sequence has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its pages, in the order of positions.
    pub(super) fn pages(&self) -> &[u32] {
        &self.pages
    }
}

/// Memory of a page in bytes: keys and values of all layers.
pub fn kv_page_bytes(config: &ModelConfig) -> u64 {
    let elements = (PAGE_LEN as u64).saturating_mul(config.n_embd as u64).saturating_mul(2 * config.n_layer as u64);
    elements.saturating_mul(4)
}

/// Pages that a sequence of `n_positions` tokens takes.
pub fn n_pages(n_positions: usize) -> usize {
    n_positions.div_ceil(PAGE_LEN)
}

impl KvPool {
    /// A pool of `n_pages` pages, all free.
    pub fn new(config: &ModelConfig, n_pages: usize, alloc: &mut Alloc<'_>) -> KvPool {
        let mut store = || (0..config.n_layer).map(|_| alloc.zeros([n_pages * PAGE_LEN, config.n_embd])).collect();
        let (keys, values) = (store(), store());
        let n_references = alloc.list(n_pages);
        let mut free: Vec<u32> = alloc.list(n_pages);
        free.iter_mut().rev().enumerate().for_each(|(page, place)| *place = page as u32);
        KvPool { keys, values, n_references, free, n_positions: config.n_positions }
    }

    /// The table of a new sequence; it allocates nothing when the sequence grows.
    pub fn new_table(&self) -> PageTable {
        PageTable { pages: Vec::with_capacity(n_pages(self.n_positions)), len: 0 }
    }

    /// Pages that no sequence has.
    pub fn n_free(&self) -> usize {
        self.free.len()
    }

    /// Positions that a sequence may have at most: the model's context.
    pub fn n_positions(&self) -> usize {
        self.n_positions
    }

    /// Pages that no other sequence has.
    ///
    /// # Panics
    /// If the table is of a larger pool.
    pub fn n_exclusive(&self, table: &PageTable) -> usize {
        table.pages.iter().filter(|&&page| self.n_references[page as usize] == 1).count()
    }

    /// Pages that `n_new` more positions take from the pool at most: new ones, and a copy of a last page that is shared
    /// (which none of the sharing sequences needs once it is the only one left).
    ///
    /// # Errors
    /// If the sequence would outgrow the model's context.
    pub fn n_needed(&self, table: &PageTable, n_new: usize) -> Result<usize, KvError> {
        let (len, n_positions) = (table.len, self.n_positions);
        if n_new > n_positions - len {
            return Err(KvError::ContextFull { len, n_new, n_positions });
        }
        let copies = usize::from(n_new > 0 && self.shared_last_page(table).is_some());
        Ok(n_pages(len + n_new) - table.pages.len() + copies)
    }

    /// The last page of a sequence, if it is not full and another sequence has it too.
    fn shared_last_page(&self, table: &PageTable) -> Option<u32> {
        let last = table.pages.last().filter(|_| !table.len.is_multiple_of(PAGE_LEN))?;
        (self.n_references[*last as usize] > 1).then_some(*last)
    }

    /// Gives a sequence `n_new` more positions, and returns the first; after an error nothing has changed.
    ///
    /// # Errors
    /// If too few pages are free, or the sequence would outgrow the model's context.
    pub fn grow(&mut self, dev: &Device, table: &mut PageTable, n_new: usize) -> Result<usize, KvError> {
        let (n_needed, n_free) = (self.n_needed(table, n_new)?, self.free.len());
        if n_needed > n_free {
            return Err(KvError::OutOfPages { n_needed, n_free });
        }
        if n_new > 0
            && let Some(shared) = self.shared_last_page(table)
            && let (Some(page), Some(last)) = (self.take_page(), table.pages.last_mut())
        {
            let (from, to) = (shared as usize * PAGE_LEN, page as usize * PAGE_LEN);
            for store in self.keys.iter_mut().chain(&mut self.values) {
                ops::copy_rows(dev, store, from, to, PAGE_LEN);
            }
            *last = page;
            self.n_references[shared as usize] -= 1;
        }
        let first = table.len;
        table.len += n_new;
        let n_more = n_pages(table.len) - table.pages.len();
        table.pages.extend((0..n_more).map_while(|_| self.take_page()));
        Ok(first)
    }

    fn take_page(&mut self) -> Option<u32> {
        let page = self.free.pop()?;
        self.n_references[page as usize] = 1;
        Some(page)
    }

    /// A second sequence with the same positions so far; they share their pages.
    ///
    /// # Panics
    /// If the table is of a larger pool.
    pub fn fork(&mut self, table: &PageTable) -> PageTable {
        let mut copy = self.new_table();
        copy.pages.extend_from_slice(&table.pages);
        copy.len = table.len;
        copy.pages.iter().for_each(|&page| self.n_references[page as usize] += 1);
        copy
    }

    /// Forgets a sequence; pages that no other sequence has are free again.
    ///
    /// # Panics
    /// If the table is of a larger pool.
    pub fn release(&mut self, table: &mut PageTable) {
        self.truncate(table, 0);
    }

    /// Forgets the positions of a sequence from `len` on.
    ///
    /// # Panics
    /// If the table is of a larger pool.
    pub fn truncate(&mut self, table: &mut PageTable, len: usize) {
        table.len = table.len.min(len);
        for page in table.pages.drain(n_pages(table.len)..) {
            let n = &mut self.n_references[page as usize];
            *n -= 1;
            if *n == 0 {
                self.free.push(page);
            }
        }
    }

    /// Keys and values of one layer.
    pub(super) fn layer_mut(&mut self, layer: usize) -> (&mut Tensor, &mut Tensor) {
        (&mut self.keys[layer], &mut self.values[layer])
    }
}
