//! Ended sequences whose pages are kept: a sequence that begins with the same tokens need not compute them.

use std::collections::VecDeque;

use crate::model::{KvPool, PageTable};

/// Most sequences that are kept; each is compared with every new one.
const MAX_KEPT: usize = 64;

/// The ended sequences, least recently used first.
pub(super) struct Prefixes {
    kept: VecDeque<Kept>,
}

struct Kept {
    /// Tokens whose keys and values the table holds.
    tokens: Vec<u32>,
    table: PageTable,
}

/// Number of tokens at the beginning of both.
pub(super) fn common_len(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl Prefixes {
    /// None yet, with the capacity for as many as an engine of `n_sequences` ends at a time.
    pub fn with_capacity(n_sequences: usize) -> Prefixes {
        Prefixes { kept: VecDeque::with_capacity(n_sequences.min(MAX_KEPT)) }
    }

    /// Keeps the pages of an ended sequence, unless another one that is kept begins with the same tokens. Returns a table
    /// without pages where one is left over.
    pub fn keep(&mut self, mut tokens: Vec<u32>, mut table: PageTable, pool: &mut KvPool) -> Option<PageTable> {
        tokens.truncate(table.len());
        if self.kept.iter().any(|kept| kept.tokens.starts_with(&tokens)) {
            pool.release(&mut table);
            return Some(table);
        }
        // Those that it begins with are no longer needed.
        let replaced = |kept: &Kept| tokens.starts_with(&kept.tokens);
        while let Some(i) = self.kept.iter().position(replaced) {
            self.remove(i, pool);
        }
        if self.kept.len() == MAX_KEPT {
            self.remove(0, pool);
        }
        self.kept.push_back(Kept { tokens, table });
        None
    }

    /// The length of the beginning that each has in common with `tokens`, by its index.
    pub fn lens(&self, tokens: &[u32]) -> impl Iterator<Item = (usize, usize)> {
        self.kept.iter().map(|kept| common_len(&kept.tokens, tokens)).enumerate()
    }

    /// The table of a sequence, which becomes the most recently used.
    pub fn use_table(&mut self, i: usize) -> &PageTable {
        if let Some(kept) = self.kept.remove(i) {
            self.kept.push_back(kept);
        }
        &self.kept[self.kept.len() - 1].table
    }

    /// Pages that only one sequence kept here has: at least so many are free once all are dropped.
    pub fn n_pages(&self, pool: &KvPool) -> usize {
        self.kept.iter().map(|kept| pool.n_exclusive(&kept.table)).sum()
    }

    /// Gives the pages of the least recently used sequence back; false if there is none.
    pub fn drop_oldest(&mut self, pool: &mut KvPool) -> bool {
        let is_any = !self.kept.is_empty();
        if is_any {
            self.remove(0, pool);
        }
        is_any
    }

    /// Gives all pages back.
    pub fn clear(&mut self, pool: &mut KvPool) {
        while self.drop_oldest(pool) {}
    }

    fn remove(&mut self, i: usize, pool: &mut KvPool) {
        if let Some(mut kept) = self.kept.remove(i) {
            pool.release(&mut kept.table);
        }
    }
}
