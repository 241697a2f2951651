//! The numeric kernels of calame: functions on slices and sizes.
//!
//! Every public kernel is a safe function that asserts its sizes once. A parallel kernel takes the [`Pool`] that it
//! runs on, which also determines its instruction set. The crate does not know about layers, models, files, the clock
//! or the environment. [`reference`](mod@reference) defines each operation by plain loops; the fast versions are tested
//! against it.

mod activation;
mod aligned;
mod attention;
mod cross_entropy;
mod disjoint_mut;
mod dropout;
mod elementwise;
mod embedding;
pub mod formats;
mod gemm;
mod isa;
mod layer_norm;
mod math;
mod memory;
mod packed;
mod philox;
mod pool;
mod precision;
mod random;
pub mod reference;
mod reporting_alloc;
mod roofline;
mod rows;
mod sizes;
mod split;
mod work_queue;
mod workspace_size;

pub use activation::Activation;
pub use aligned::AlignedVec;
pub use attention::{
    AttentionShape, KvPages, attention_backward, attention_extend, attention_forward, attention_workspace_size,
    store_kv,
};
pub use cross_entropy::{cross_entropy_forward, cross_entropy_forward_backward, sum_losses};
pub use dropout::{DropMask, drop_elements, drop_in_place};
pub use elementwise::{AdamW, adamw, adamw_rows, add_scaled, sum_of_squares, sum_rows_add};
pub use embedding::{embedding_backward, embedding_forward, positions};
pub use gemm::{Epilogue, Init, MatMut, MatRef, gemm, gemm_then, gemm_workspace_size};
pub use isa::Isa;
pub use layer_norm::{layer_norm_again, layer_norm_backward_add, layer_norm_forward};
pub use memory::{all_finite, copy, fill, zero_nonzero};
pub use packed::{PackedMatrix, PackedShape, packed_embedding, packed_product};
pub use philox::{Key, philox};
pub use pool::Pool;
pub use precision::Precision;
pub use random::{fill_normal, fill_uniform};
pub use reporting_alloc::ReportingAlloc;
pub use roofline::{multiply_in_registers, read_memory, update_memory};
pub use rows::{copy_rows, gather_rows, nonzero_rows, scatter_rows_add};
pub use workspace_size::WorkspaceSize;
