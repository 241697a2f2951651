//! What is done to C once its products are summed, part by part, while the part is still in the cache.

use std::fmt;

use super::view::MatMut;
use crate::disjoint_mut::DisjointMut;
use crate::dropout::{DropMask, add_dropped};
use crate::elementwise::{gelu, gelu_backward};
use crate::isa::Isa;

/// An element-wise end of a product: it saves the pass over memory that an operation of its own would take.
pub enum Epilogue<'a> {
    /// Nothing.
    None,
    /// y becomes gelu(C); C stays as it is, for backward.
    Gelu {
        /// As large as C; overwritten.
        y: &'a mut [f32],
    },
    /// C, the gradient of gelu(x), becomes that of x; y becomes gelu(x).
    GeluBackward {
        /// The argument of gelu, as large as C.
        x: &'a [f32],
        /// As large as C; overwritten.
        y: &'a mut [f32],
    },
    /// C becomes x + C·keep: the end of a branch of the residual stream.
    AddDropped {
        /// As large as C.
        x: &'a [f32],
        /// Which elements stay; without it all do.
        keep: Option<&'a DropMask<'a>>,
        /// Rows of C that belong to one sequence.
        rows_per_sequence: usize,
    },
}

impl<'a> Epilogue<'a> {
    pub(super) fn check(&self, c: &MatMut<'_>) {
        let n = c.rows * c.cols;
        let (agrees, dense) = match self {
            Epilogue::None => (true, true),
            Epilogue::Gelu { y } => (y.len() == n, c.row_stride == c.cols),
            Epilogue::GeluBackward { x, y } => (x.len() == n && y.len() == n, c.row_stride == c.cols),
            Epilogue::AddDropped { x, rows_per_sequence, .. } => {
                (x.len() == n && *rows_per_sequence > 0, c.row_stride == c.cols)
            }
        };
        assert!(agrees && dense, "gemm: {self:?} of C [{}, {}], rows {} apart", c.rows, c.cols, c.row_stride);
    }

    pub(super) fn shared(self) -> SharedEpilogue<'a> {
        match self {
            Epilogue::None => SharedEpilogue::None,
            Epilogue::Gelu { y } => SharedEpilogue::Gelu { y: DisjointMut::new(y) },
            Epilogue::GeluBackward { x, y } => SharedEpilogue::GeluBackward { x, y: DisjointMut::new(y) },
            Epilogue::AddDropped { x, keep, rows_per_sequence } => {
                SharedEpilogue::AddDropped { x, keep, rows_per_sequence }
            }
        }
    }
}

impl fmt::Debug for Epilogue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Epilogue::None => write!(f, "None"),
            Epilogue::Gelu { y } => write!(f, "Gelu into {} elements", y.len()),
            Epilogue::GeluBackward { x, y } => write!(f, "GeluBackward of {} elements into {}", x.len(), y.len()),
            Epilogue::AddDropped { x, rows_per_sequence, .. } => {
                write!(f, "AddDropped to {} elements, {rows_per_sequence} rows a sequence", x.len())
            }
        }
    }
}

/// A [`Epilogue`] that tasks share.
pub(super) enum SharedEpilogue<'a> {
    None,
    Gelu { y: DisjointMut<f32> },
    GeluBackward { x: &'a [f32], y: DisjointMut<f32> },
    AddDropped { x: &'a [f32], keep: Option<&'a DropMask<'a>>, rows_per_sequence: usize },
}

impl SharedEpilogue<'_> {
    /// Finishes one piece of a row of C: element (row, col) and those that follow it.
    ///
    /// # Safety
    /// `c` is this task's, and so are the same elements of y.
    pub unsafe fn apply(&self, isa: Isa, c: &mut [f32], cols: usize, row: usize, col: usize) {
        let (from, to) = (row * cols + col, row * cols + col + c.len());
        match *self {
            SharedEpilogue::None => {}
            // SAFETY: promised by the caller.
            SharedEpilogue::Gelu { y } => gelu(isa, c, unsafe { y.part(from, to) }),
            SharedEpilogue::GeluBackward { x, y } => {
                // SAFETY: promised by the caller.
                gelu_backward(isa, &x[from..to], c, unsafe { y.part(from, to) });
            }
            SharedEpilogue::AddDropped { x, keep, rows_per_sequence } => {
                let place = (row / rows_per_sequence, row % rows_per_sequence, col);
                add_dropped(isa, &x[from..to], keep, place, c);
            }
        }
    }
}
