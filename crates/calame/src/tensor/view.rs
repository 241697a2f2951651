//! Parts of matrices: ranges of rows and columns of a tensor.

use std::ops::Range;

use super::Tensor;

/// A part of a tensor that is read as a matrix [rows, columns], or as its transpose.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// The tensor, seen as [rows, elements of a row].
    pub tensor: &'a Tensor,
    /// Rows of the tensor.
    pub rows: Range<usize>,
    /// Columns of the tensor.
    pub columns: Range<usize>,
    /// Whether the matrix is the transpose of these rows and columns.
    pub transposed: bool,
}

impl Tensor {
    /// The whole tensor as a matrix [rows, elements of a row].
    pub fn view(&self) -> View<'_> {
        View::of(self)
    }

    /// The whole tensor as a matrix to write.
    pub fn view_mut(&mut self) -> ViewMut<'_> {
        ViewMut::of(self)
    }
}

impl<'a> View<'a> {
    fn of(tensor: &'a Tensor) -> View<'a> {
        View { tensor, rows: 0..tensor.n_rows(), columns: 0..tensor.row_len(), transposed: false }
    }

    /// Rows `rows` of the tensor, instead of all.
    ///
    /// # Panics
    /// If the tensor lacks some of them.
    #[must_use]
    pub fn rows(self, rows: Range<usize>) -> View<'a> {
        check("rows", &rows, self.tensor.n_rows(), self.tensor);
        View { rows, ..self }
    }

    /// Columns `columns` of the tensor, instead of all.
    ///
    /// # Panics
    /// If the tensor lacks some of them.
    #[must_use]
    pub fn columns(self, columns: Range<usize>) -> View<'a> {
        check("columns", &columns, self.tensor.row_len(), self.tensor);
        View { columns, ..self }
    }

    /// The transpose of the matrix; nothing moves.
    #[must_use]
    pub fn t(self) -> View<'a> {
        View { transposed: !self.transposed, ..self }
    }

    /// [rows, columns] of the matrix.
    pub fn dims(&self) -> [usize; 2] {
        if self.transposed { [self.columns.len(), self.rows.len()] } else { [self.rows.len(), self.columns.len()] }
    }
}

/// A part of a tensor that is written as a matrix [rows, columns].
#[derive(Debug)]
pub struct ViewMut<'a> {
    /// The tensor, seen as [rows, elements of a row].
    pub tensor: &'a mut Tensor,
    /// Rows of the tensor.
    pub rows: Range<usize>,
    /// Columns of the tensor.
    pub columns: Range<usize>,
}

impl<'a> ViewMut<'a> {
    fn of(tensor: &'a mut Tensor) -> ViewMut<'a> {
        ViewMut { rows: 0..tensor.n_rows(), columns: 0..tensor.row_len(), tensor }
    }

    /// Rows `rows` of the tensor, instead of all.
    ///
    /// # Panics
    /// If the tensor lacks some of them.
    #[must_use]
    pub fn rows(self, rows: Range<usize>) -> ViewMut<'a> {
        check("rows", &rows, self.tensor.n_rows(), self.tensor);
        ViewMut { rows, ..self }
    }

    /// Columns `columns` of the tensor, instead of all.
    ///
    /// # Panics
    /// If the tensor lacks some of them.
    #[must_use]
    pub fn columns(self, columns: Range<usize>) -> ViewMut<'a> {
        check("columns", &columns, self.tensor.row_len(), self.tensor);
        ViewMut { columns, ..self }
    }

    /// [rows, columns] of the matrix.
    pub fn dims(&self) -> [usize; 2] {
        [self.rows.len(), self.columns.len()]
    }
}

fn check(what: &str, range: &Range<usize>, n: usize, tensor: &Tensor) {
    assert!(range.start <= range.end && range.end <= n, "{what} {range:?} of {tensor:?}, which has {n}");
}
