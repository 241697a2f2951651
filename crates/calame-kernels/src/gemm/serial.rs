//! Small products within one task, with the same micro-kernels; attention consists of them.

use std::ops::Range;

use super::kernels::{Kernels, Store};
use super::select::kernels_of;
use super::view::MatRef;
use crate::isa::Isa;
use crate::precision::Precision;

/// Products of packed operands on the calling thread.
#[derive(Clone, Copy)]
pub(crate) struct Serial {
    kernels: Kernels,
}

/// A block of consecutive queries.
#[derive(Clone, Copy)]
pub(crate) struct QueryBlock {
    /// Position of the first query.
    pub first: usize,
    /// The first key that any of the queries sees.
    pub first_key: usize,
}

/// Which part of a product over positions is computed: a query sees the keys up to its own position, and none before
/// the block's first key.
///
/// Skipped terms are zero. Skipped columns of C are left unchanged; the caller of [`Serial::multiply`] does not read
/// them.
#[derive(Clone, Copy)]
pub(crate) enum Masked {
    /// Rows are the block's queries, columns are keys: a panel of rows has the columns that its last query sees.
    QueriesByKeys(QueryBlock),
    /// Rows are the block's queries, terms are keys: a panel of rows has the terms that its last query sees.
    QueriesOverKeys(QueryBlock),
    /// Rows are all keys, terms are the block's queries: a panel of rows has the terms that see its first key.
    KeysOverQueries(QueryBlock),
}

impl Masked {
    /// The columns, out of `n`, and the terms, out of `k`, of the given rows.
    fn limits(self, rows: Range<usize>, n: usize, k: usize) -> (Range<usize>, Range<usize>) {
        match self {
            Masked::QueriesByKeys(block) => (block.first_key..(block.first + rows.end).min(n), 0..k),
            Masked::QueriesOverKeys(block) => (0..n, block.first_key..(block.first + rows.end).min(k)),
            Masked::KeysOverQueries(block) if rows.end <= block.first_key => (0..n, 0..0),
            Masked::KeysOverQueries(block) => (0..n, rows.start.saturating_sub(block.first).min(k)..k),
        }
    }
}

/// A right operand packed over all of k, as panels `[units][nr]`.
#[derive(Clone, Copy)]
pub(crate) struct PackedB<'a> {
    panels: &'a [f32],
    k: usize,
}

/// A left operand packed over all of k, as panels `[units][mr]`.
#[derive(Clone, Copy)]
pub(crate) struct PackedA<'a> {
    panels: &'a [f32],
    rows: usize,
    k: usize,
}

impl Serial {
    pub fn new(isa: Isa, precision: Precision) -> Serial {
        Serial { kernels: kernels_of(isa, precision) }
    }

    /// Number of floats that [`Serial::pack_a`] needs for a matrix [rows, k].
    pub fn packed_a_len(self, rows: usize, k: usize) -> usize {
        rows.next_multiple_of(self.kernels.mr) * self.kernels.units(k)
    }

    /// Number of floats that [`Serial::pack_b`] needs for a matrix [k, cols].
    pub fn packed_b_len(self, k: usize, cols: usize) -> usize {
        cols.next_multiple_of(self.kernels.nr) * self.kernels.units(k)
    }

    pub fn pack_a<'a>(self, buffer: &'a mut [f32], a: MatRef<'_>) -> PackedA<'a> {
        let buffer = &mut buffer[..self.packed_a_len(a.rows, a.cols)];
        for (i, panel) in buffer.chunks_exact_mut(self.kernels.mr * self.kernels.units(a.cols)).enumerate() {
            self.kernels.pack_rows(panel, &a, i, 0, a.cols);
        }
        PackedA { panels: buffer, rows: a.rows, k: a.cols }
    }

    pub fn pack_b<'a>(self, buffer: &'a mut [f32], b: MatRef<'_>) -> PackedB<'a> {
        let buffer = &mut buffer[..self.packed_b_len(b.rows, b.cols)];
        for (j, panel) in buffer.chunks_exact_mut(self.kernels.nr * self.kernels.units(b.rows)).enumerate() {
            self.kernels.pack_cols(panel, &b, j, 0, b.rows);
        }
        PackedB { panels: buffer, k: b.rows }
    }

    /// Computes the unmasked part of C = A·B, or C += A·B if `add`, from the first A.k rows and `cols` columns of B.
    ///
    /// # Safety
    /// C has A.rows × `cols` elements, in rows `row_stride` apart, which no one else accesses meanwhile.
    pub unsafe fn multiply(
        self,
        a: PackedA<'_>,
        b: PackedB<'_>,
        masked: Masked,
        cols: usize,
        c: *mut f32,
        row_stride: usize,
        add: bool,
    ) {
        let Kernels { mr, nr, k_step, tile, .. } = self.kernels;
        let (a_units, b_units) = (self.kernels.units(a.k), self.kernels.units(b.k));
        assert!(a.k <= b.k && cols.next_multiple_of(nr) * b_units <= b.panels.len(), "Serial::multiply: sizes");
        let store = if add { Store::Add } else { Store::Overwrite };
        for (i, a_panel) in a.panels.chunks_exact(mr * a_units).enumerate() {
            let rows = i * mr..(i * mr + mr).min(a.rows);
            let (columns, terms) = masked.limits(rows.clone(), cols, a.k);
            if add && terms.is_empty() {
                continue;
            }
            let first = terms.start / k_step;
            let n_units = self.kernels.units(terms.end) - first;
            let (from, to) = (columns.start / nr, columns.end.div_ceil(nr));
            for (j, b_panel) in b.panels.chunks_exact(nr * b_units).enumerate().take(to).skip(from) {
                let (a, b) = (&a_panel[first * mr..], &b_panel[first * nr..]);
                // SAFETY: the tile is inside the C that the caller promised; the panels hold `n_units` units from
                // `first`.
                unsafe {
                    let c = c.add(rows.start * row_stride + j * nr);
                    tile(
                        n_units,
                        a.as_ptr(),
                        b.as_ptr(),
                        c,
                        row_stride,
                        rows.len(),
                        nr.min(columns.end - j * nr),
                        store,
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The heights of panels are those of the instruction sets, and others.
    #[test]
    fn no_panel_lacks_what_the_mask_leaves() {
        for (mr, first, first_key, n_queries) in [
            (1, 0, 0, 1),
            (6, 0, 0, 64),
            (14, 64, 0, 64),
            (14, 192, 0, 8),
            (8, 64, 64, 63),
            (32, 128, 0, 1),
            (14, 64, 31, 64),
            (6, 128, 128, 5),
        ] {
            let (block, n_keys) = (QueryBlock { first, first_key }, first + n_queries);
            let panels = |n: usize| (0..n).step_by(mr).map(move |start| start..(start + mr).min(n));
            let sees = |query: usize, key: usize| (first_key..=first + query).contains(&key);
            for rows in panels(n_queries) {
                let (columns, _) = Masked::QueriesByKeys(block).limits(rows.clone(), n_keys, 5);
                let (_, terms) = Masked::QueriesOverKeys(block).limits(rows.clone(), 5, n_keys);
                for key in 0..n_keys {
                    let is_seen = rows.clone().any(|query| sees(query, key));
                    assert_eq!(
                        (columns.contains(&key), terms.contains(&key)),
                        (is_seen, is_seen),
                        "{rows:?} of {mr}, key {key}"
                    );
                }
            }
            for rows in panels(n_keys) {
                let (_, terms) = Masked::KeysOverQueries(block).limits(rows.clone(), 5, n_queries);
                for query in 0..n_queries {
                    let is_seen = rows.clone().any(|key| sees(query, key));
                    assert!(!is_seen || terms.contains(&query), "{rows:?} of {mr}, query {query}");
                }
                // Only the panel that contains the block's first key has terms that no row needs.
                let all_before = rows.clone().all(|key| key < first_key);
                let is_exact = all_before || rows.start >= first_key;
                let n_seen = (0..n_queries).filter(|&query| rows.clone().any(|key| sees(query, key))).count();
                assert!(!is_exact || terms.len() == n_seen, "{rows:?} of {mr}");
            }
        }
    }
}
