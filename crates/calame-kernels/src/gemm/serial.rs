//! Small products inside one task, by the same micro-kernels: what attention is made of.

use std::ops::Range;

use super::MatRef;
use super::kernels::{Kernels, Store};
use crate::isa::Isa;
use crate::precision::Precision;

/// Products of packed operands on the calling thread.
#[derive(Clone, Copy)]
pub(crate) struct Serial {
    kernels: Kernels,
}

/// What the causal mask leaves of a product over positions: a query sees the keys up to its own.
///
/// Terms that are left out are zero. Columns that are left out keep what C held, and whoever reads C looks at what the mask
/// leaves alone.
#[derive(Clone, Copy)]
pub(crate) enum Causal {
    /// Rows are queries from this one on, columns keys: a panel of rows has the columns that its last query sees.
    QueriesByKeys(usize),
    /// Rows are queries from this one on, terms keys: a panel has the terms that its last query sees.
    QueriesOverKeys(usize),
    /// Rows are keys from 0 on, terms queries from this one on: a panel has the terms that see its first key.
    KeysOverQueries(usize),
}

impl Causal {
    /// The columns, of `n`, and the terms, of `k`, that rows `rows` have.
    fn limits(self, rows: Range<usize>, n: usize, k: usize) -> (usize, Range<usize>) {
        match self {
            Causal::QueriesByKeys(first) => ((first + rows.end).min(n), 0..k),
            Causal::QueriesOverKeys(first) => (n, 0..(first + rows.end).min(k)),
            Causal::KeysOverQueries(first) => (n, rows.start.saturating_sub(first).min(k)..k),
        }
    }
}

/// An operand B packed for all of its k: panels `[units][nr]`.
#[derive(Clone, Copy)]
pub(crate) struct PackedB<'a> {
    panels: &'a [f32],
    k: usize,
}

/// An operand A packed for all of its k: panels `[units][mr]`.
#[derive(Clone, Copy)]
pub(crate) struct PackedA<'a> {
    panels: &'a [f32],
    rows: usize,
    k: usize,
}

impl Serial {
    pub fn new(isa: Isa, precision: Precision) -> Serial {
        Serial { kernels: Kernels::of(isa, precision) }
    }

    /// Floats that [`Serial::pack_a`] needs for a matrix [rows, k].
    pub fn packed_a_len(self, rows: usize, k: usize) -> usize {
        rows.next_multiple_of(self.kernels.mr) * self.kernels.units(k)
    }

    /// Floats that [`Serial::pack_b`] needs for a matrix [k, cols].
    pub fn packed_b_len(self, k: usize, cols: usize) -> usize {
        cols.next_multiple_of(self.kernels.nr) * self.kernels.units(k)
    }

    pub fn pack_a<'a>(self, room: &'a mut [f32], a: MatRef<'_>) -> PackedA<'a> {
        let room = &mut room[..self.packed_a_len(a.rows, a.cols)];
        for (i, panel) in room.chunks_exact_mut(self.kernels.mr * self.kernels.units(a.cols)).enumerate() {
            self.kernels.pack_rows(panel, &a, i, 0, a.cols);
        }
        PackedA { panels: room, rows: a.rows, k: a.cols }
    }

    pub fn pack_b<'a>(self, room: &'a mut [f32], b: MatRef<'_>) -> PackedB<'a> {
        let room = &mut room[..self.packed_b_len(b.rows, b.cols)];
        for (j, panel) in room.chunks_exact_mut(self.kernels.nr * self.kernels.units(b.rows)).enumerate() {
            self.kernels.pack_cols(panel, &b, j, 0, b.rows);
        }
        PackedB { panels: room, k: b.rows }
    }

    /// C = A·B (or C += A·B where `add`) as far as the mask goes, for A's k: the first A.k rows and the first `cols` columns
    /// of B.
    ///
    /// # Safety
    /// C is A.rows × `cols` elements, rows `row_stride` apart, that nobody else touches meanwhile.
    pub unsafe fn multiply(
        self,
        a: PackedA<'_>,
        b: PackedB<'_>,
        causal: Causal,
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
            let (cols, terms) = causal.limits(rows.clone(), cols, a.k);
            let first = terms.start / k_step;
            let n_units = self.kernels.units(terms.end) - first;
            for (j, b_panel) in b.panels.chunks_exact(nr * b_units).enumerate().take(cols.div_ceil(nr)) {
                let (a, b) = (&a_panel[first * mr..], &b_panel[first * nr..]);
                // SAFETY: the tile lies inside the C that the caller promised; panels hold the units from `first` on.
                unsafe {
                    let c = c.add(rows.start * row_stride + j * nr);
                    tile(n_units, a.as_ptr(), b.as_ptr(), c, row_stride, rows.len(), nr.min(cols - j * nr), store);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the height of a panel, of which each instruction set has its own.
    #[test]
    fn no_panel_lacks_what_the_mask_leaves() {
        for (mr, first, n_queries) in [(1, 0, 1), (6, 0, 64), (14, 64, 64), (14, 192, 8), (8, 64, 63), (32, 128, 1)] {
            let n_keys = first + n_queries;
            let panels = |n: usize| (0..n).step_by(mr).map(move |start| start..(start + mr).min(n));
            let sees = |query: usize, key: usize| key <= first + query;
            for rows in panels(n_queries) {
                let (columns, _) = Causal::QueriesByKeys(first).limits(rows.clone(), n_keys, 5);
                let (_, terms) = Causal::QueriesOverKeys(first).limits(rows.clone(), 5, n_keys);
                for key in 0..n_keys {
                    let is_seen = rows.clone().any(|query| sees(query, key));
                    assert_eq!(
                        (key < columns, terms.contains(&key)),
                        (is_seen, is_seen),
                        "{rows:?} of {mr}, key {key}"
                    );
                }
            }
            for rows in panels(n_keys) {
                let (_, terms) = Causal::KeysOverQueries(first).limits(rows.clone(), 5, n_queries);
                for query in 0..n_queries {
                    let is_seen = rows.clone().any(|key| sees(query, key));
                    assert_eq!(terms.contains(&query), is_seen, "{rows:?} of {mr}, query {query}");
                }
            }
        }
    }
}
