//! Matrices as strided views of slices.

use std::ops::Range;

/// A matrix for reading: element (r, c) is at `r * row_stride + c * col_stride`.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a> {
    data: &'a [f32],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
    pub(super) col_stride: usize,
}

impl<'a> MatRef<'a> {
    /// A row-major matrix [rows, cols] whose rows are `row_stride` elements apart.
    ///
    /// # Panics
    /// If `data` is too short or rows overlap.
    pub fn new(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> MatRef<'a> {
        check(data.len(), rows, cols, row_stride);
        MatRef { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// A row-major matrix [rows, cols] without gaps.
    ///
    /// # Panics
    /// If `data` is too short.
    pub fn dense(data: &'a [f32], rows: usize, cols: usize) -> MatRef<'a> {
        MatRef::new(data, rows, cols, cols)
    }

    /// Distance of the rows in elements.
    pub(crate) fn row_stride(&self) -> usize {
        self.row_stride
    }

    /// Columns `range` of a row-major matrix [rows, row_stride] without gaps.
    ///
    /// # Panics
    /// If `data` is too short or the range extends beyond a row.
    pub fn columns(data: &'a [f32], rows: usize, row_stride: usize, range: Range<usize>) -> MatRef<'a> {
        check_columns(data.len(), rows, row_stride, &range);
        MatRef::new(&data[range.start.min(data.len())..], rows, range.len(), row_stride)
    }

    /// The transposed view; no data is moved.
    pub fn t(self) -> MatRef<'a> {
        let MatRef { data, rows, cols, row_stride, col_stride } = self;
        MatRef { data, rows: cols, cols: rows, row_stride: col_stride, col_stride: row_stride }
    }

    /// Rows of the view.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the view.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Whether the elements of a row are adjacent.
    pub(crate) fn has_dense_rows(&self) -> bool {
        self.col_stride == 1 || self.cols <= 1
    }

    /// A row whose elements are adjacent.
    pub(crate) fn row(&self, row: usize) -> &'a [f32] {
        assert!(row < self.rows && self.has_dense_rows(), "row {row} of {self:?}");
        &self.data[row * self.row_stride..][..self.cols]
    }

    /// The address of an element, from which the rest of the data can be read.
    pub(crate) fn at(&self, row: usize, col: usize) -> *const f32 {
        self.data[row * self.row_stride + col * self.col_stride..].as_ptr()
    }
}

/// A row-major matrix for writing.
#[derive(Debug)]
pub struct MatMut<'a> {
    pub(super) data: &'a mut [f32],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
}

impl<'a> MatMut<'a> {
    /// Rows of the view.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the view.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// A row-major matrix [rows, cols] whose rows are `row_stride` elements apart.
    ///
    /// # Panics
    /// If `data` is too short or rows overlap.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize, row_stride: usize) -> MatMut<'a> {
        check(data.len(), rows, cols, row_stride);
        MatMut { data, rows, cols, row_stride }
    }

    /// A row-major matrix [rows, cols] without gaps.
    ///
    /// # Panics
    /// If `data` is too short.
    pub fn dense(data: &'a mut [f32], rows: usize, cols: usize) -> MatMut<'a> {
        MatMut::new(data, rows, cols, cols)
    }

    /// Columns `range` of a row-major matrix [rows, row_stride] without gaps; the other columns are not accessed.
    ///
    /// # Panics
    /// If `data` is too short or the range extends beyond a row.
    pub fn columns(data: &'a mut [f32], rows: usize, row_stride: usize, range: Range<usize>) -> MatMut<'a> {
        check_columns(data.len(), rows, row_stride, &range);
        let start = range.start.min(data.len());
        MatMut::new(&mut data[start..], rows, range.len(), row_stride)
    }
}

fn check_columns(len: usize, rows: usize, row_stride: usize, range: &Range<usize>) {
    assert!(
        range.start <= range.end && range.end <= row_stride && rows.checked_mul(row_stride).is_some_and(|n| n <= len),
        "columns {range:?} of a matrix [{rows}, {row_stride}] in {len} elements"
    );
}

fn check(len: usize, rows: usize, cols: usize, row_stride: usize) {
    let is_empty = rows == 0 || cols == 0;
    let needed = || (rows - 1).checked_mul(row_stride)?.checked_add(cols);
    assert!(
        (is_empty || needed().is_some_and(|n| n <= len)) && (cols <= row_stride || rows <= 1),
        "matrix [{rows}, {cols}] with rows {row_stride} apart in {len} elements"
    );
}
