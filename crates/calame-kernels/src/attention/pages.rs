//! Page tables: where the keys and values of sequences are stored.

/// The pages that store the keys and values of many sequences.
///
/// A page holds `page_len` positions of each head. A page of values is [NH, page_len, HS]; a page of keys is transposed, [NH,
/// HS, page_len], so that the products with a query are sums of whole vectors. What a head reads of a page is contiguous.
/// Page tables may differ in length; they are concatenated in `table`. A page listed in several tables is shared by their
/// sequences.
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
    /// Where a head's part of a page begins in a store: that of the page of a position.
    #[inline(always)]
    pub(crate) fn part(
        &self,
        sequence: usize,
        position: usize,
        head: usize,
        (n_head, head_size): (usize, usize),
    ) -> usize {
        let page = self.table[self.starts[sequence] as usize + position / self.page_len];
        (page as usize * n_head + head) * self.page_len * head_size
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
