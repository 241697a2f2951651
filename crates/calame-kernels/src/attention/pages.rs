//! Page tables: where the keys and values of sequences are stored.

/// The pages that store the keys and values of many sequences.
///
/// A page holds `page_len` positions. A page of values has a row of C elements for each position, [page_len, C]; a page of
/// keys is transposed, [C, page_len], so that the products with a query are sums of whole vectors. Page tables may differ
/// in length; they are concatenated in `table`. A page listed in several tables is shared by their sequences.
#[derive(Clone, Copy, Debug)]
pub struct KvPages<'a> {
    /// Number of positions in a page.
    pub page_len: usize,
    /// Page numbers; those of sequence s, in order of position, begin at `table[starts[s]]`.
    pub table: &'a [u32],
    /// Where each sequence's page table begins in `table`.
    pub starts: &'a [u32],
}

impl KvPages<'_> {
    /// Where a key of C elements is in the store: the index of its first element; the others follow at distances of
    /// `page_len`.
    #[inline(always)]
    pub(crate) fn key(&self, sequence: usize, position: usize, c: usize) -> usize {
        let at = position % self.page_len;
        (self.row(sequence, position) - at) * c + at
    }

    /// The row of the store of values that holds a position of a sequence.
    #[inline(always)]
    pub(crate) fn row(&self, sequence: usize, position: usize) -> usize {
        let page = self.table[self.starts[sequence] as usize + position / self.page_len];
        page as usize * self.page_len + position % self.page_len
    }

    /// Asserts that page `i` of a sequence exists and lies within a store of `n_rows` rows.
    pub(super) fn check_page(&self, operation: &str, sequence: u32, i: usize, n_rows: usize) {
        let start = self.starts.get(sequence as usize);
        let page = start.and_then(|&start| self.table.get((start as usize).checked_add(i)?));
        assert!(
            page.is_some_and(|&page| (page as usize + 1).checked_mul(self.page_len).is_some_and(|end| end <= n_rows)),
            "{operation}: page {i} of sequence {sequence} is {page:?} in a store of {n_rows} rows, {} to a page",
            self.page_len
        );
    }
}
