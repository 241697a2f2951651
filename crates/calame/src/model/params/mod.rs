//! The parameters: one table of what each is, and a visitor that walks weights, gradients and moments in one order.
//!
//! Trees of the same shape are walked in step by zipping their iterators. Tensors that are absent (a bias that a layer does
//! not have, the gradient of a frozen parameter) are visited too, so that the places agree; callers skip them.

mod name;
mod spec;
mod table;
mod visit;

pub use name::{Factor, ParamName};
pub use spec::{Initial, ParamSpec, absent_biases, shapes, specs};
pub(super) use table::*;
pub use table::{Kind, Param};
pub use visit::{Tensors, TensorsMut};
pub(super) use visit::{block, block_mut, embeddings, embeddings_mut, head, head_mut};
