//! Causal attention: y = dropout(softmax(s·q·kᵀ))·v for each head, forward and backward; GPT-2's scale s is 1/√HS.
//!
//! Neither pass stores a matrix [T, T]. A block of queries is processed at a time, over the keys that it may see, and
//! backward recomputes the weights from the saved log-sum-exp of each row (T. Dao et al., "FlashAttention", 2022,
//! without its blocks over keys: at GPT-2's lengths a row of weights fits the cache).
//!
//! Several examples may be packed into one sequence: `starts` [B·T] gives, for each position, the first position of its
//! sequence that it may attend to, which is the start of its example. Masked weights are exactly 0.
//!
//! Backward, with P the weights, f the dropout factors, P̃ = P·f and D = Σ dy·y over a row:
//! dv = P̃ᵀ·dy, dP = f·(dy·vᵀ), dS = P·(dP − D), dq = s·dS·k, dk = s·dSᵀ·q.

mod backward;
mod extend;
mod forward;
mod head;
mod pages;

pub use backward::attention_backward;
use backward::backward_lengths;
pub use extend::{attention_extend, store_kv};
pub use forward::attention_forward;
use forward::forward_lengths;
pub use head::AttentionShape;
pub use pages::KvPages;

use crate::gemm::serial::Serial;
use crate::isa::Isa;
use crate::precision::Precision;
use crate::workspace_size::WorkspaceSize;

/// The work space that forward and backward need for a shape.
pub fn attention_workspace_size(isa: Isa, precision: Precision, shape: AttentionShape) -> WorkspaceSize {
    let serial = Serial::new(isa, precision);
    let per_thread = head::carved(forward_lengths(serial, shape)).max(head::carved(backward_lengths(serial, shape)));
    WorkspaceSize { per_thread, ..WorkspaceSize::default() }
}
