//! Epilogues: element-wise operations on the parts of C while they are still in the cache.
//!
//! They are passes over a block of C in the second-level cache, not code inside the micro-kernels: one version serves
//! all instruction sets, and activation, dropout and the residual sum need no pass over memory.

use std::fmt;

use super::view::MatMut;
use crate::activation::{Activation, activate, activate_backward};
use crate::disjoint_mut::DisjointMut;
use crate::dropout::{DropMask, add_dropped};
use crate::isa::Isa;
use crate::sizes::has_dims;

/// An element-wise operation after a product, which saves the pass over memory that a separate operation would take.
pub enum Epilogue<'a> {
    /// C is the plain product.
    None,
    /// y becomes activation(C); C itself is unchanged, for backward.
    Activation {
        /// The function that is applied.
        activation: Activation,
        /// The function of each element, of the size of C; overwritten.
        y: &'a mut [f32],
    },
    /// C is the gradient of activation(x) and becomes the gradient of x; y becomes activation(x).
    ActivationBackward {
        /// The function that is applied.
        activation: Activation,
        /// The argument of the function, of the size of C.
        x: &'a [f32],
        /// The function of each element of x, of the size of C; overwritten.
        y: &'a mut [f32],
    },
    /// C becomes x + C·keep: the end of a branch of the residual stream.
    AddDropped {
        /// The residual stream before the branch, of the size of C.
        x: &'a [f32],
        /// Which elements of the branch are kept; all of them if it is `None`.
        keep: Option<&'a DropMask<'a>>,
        /// Number of rows of C that belong to one sequence.
        rows_per_sequence: usize,
    },
}

impl<'a> Epilogue<'a> {
    pub(crate) fn check(&self, c: &MatMut<'_>) {
        let has_size = |len: usize| has_dims(len, [c.rows, c.cols]);
        let (agrees, dense) = match self {
            Epilogue::None => (true, true),
            Epilogue::Activation { y, .. } => (has_size(y.len()), c.row_stride == c.cols),
            Epilogue::ActivationBackward { x, y, .. } => {
                (has_size(x.len()) && has_size(y.len()), c.row_stride == c.cols)
            }
            Epilogue::AddDropped { x, rows_per_sequence, .. } => {
                (has_size(x.len()) && *rows_per_sequence > 0, c.row_stride == c.cols)
            }
        };
        assert!(agrees && dense, "gemm: {self:?} of C [{}, {}], rows {} apart", c.rows, c.cols, c.row_stride);
    }

    pub(crate) fn shared(self) -> SharedEpilogue<'a> {
        match self {
            Epilogue::None => SharedEpilogue::None,
            Epilogue::Activation { activation, y } => SharedEpilogue::Activation { activation, y: DisjointMut::new(y) },
            Epilogue::ActivationBackward { activation, x, y } => {
                SharedEpilogue::ActivationBackward { activation, x, y: DisjointMut::new(y) }
            }
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
            Epilogue::Activation { activation, y } => write!(f, "Activation {activation} into {} elements", y.len()),
            Epilogue::ActivationBackward { activation, x, y } => {
                write!(f, "ActivationBackward {activation} of {} elements into {}", x.len(), y.len())
            }
            Epilogue::AddDropped { x, rows_per_sequence, .. } => {
                write!(f, "AddDropped to {} elements, {rows_per_sequence} rows a sequence", x.len())
            }
        }
    }
}

/// An [`Epilogue`] as tasks share it.
pub(crate) enum SharedEpilogue<'a> {
    None,
    Activation { activation: Activation, y: DisjointMut<f32> },
    ActivationBackward { activation: Activation, x: &'a [f32], y: DisjointMut<f32> },
    AddDropped { x: &'a [f32], keep: Option<&'a DropMask<'a>>, rows_per_sequence: usize },
}

impl SharedEpilogue<'_> {
    /// Applies the epilogue to a piece of a row of C that begins at element (row, col).
    ///
    /// # Safety
    /// `c` and the same elements of y belong to the calling task.
    pub unsafe fn apply(&self, isa: Isa, c: &mut [f32], cols: usize, row: usize, col: usize) {
        let (from, to) = (row * cols + col, row * cols + col + c.len());
        match *self {
            SharedEpilogue::None => {}
            // SAFETY: promised by the caller.
            SharedEpilogue::Activation { activation, y } => activate(isa, activation, c, unsafe { y.part(from, to) }),
            SharedEpilogue::ActivationBackward { activation, x, y } => {
                // SAFETY: promised by the caller.
                activate_backward(isa, activation, &x[from..to], c, unsafe { y.part(from, to) });
            }
            SharedEpilogue::AddDropped { x, keep, rows_per_sequence } => {
                let place = (row / rows_per_sequence, row % rows_per_sequence, col);
                add_dropped(isa, &x[from..to], keep, place, c);
            }
        }
    }
}
