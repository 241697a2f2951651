//! Operations on tensors, for every device and number format.
//!
//! The first argument of each is the [`Device`]; what is written is `&mut`, and overwritten unless the name ends in `_add`
//! or the argument is a gradient of a parameter (`grad`, `dweight`, `dbias`), which is added to, and left alone where it is
//! absent. Each operation is timed under its [`Phase`] and then computed by the device's
//! [`Backend`](crate::device::Backend).

mod attention;
mod check;
mod cpu;
mod host;
mod layers;
mod linear;
mod lm_head;
mod memory;
mod optimizer;
mod roofline;
mod weights;

pub use attention::{attention_backward, attention_extend, attention_forward, store_kv};
pub use calame_kernels::{
    Activation, AdamW as AdamWStep, AttentionShape, DropMask, Isa, Precision, WorkspaceSize, attention_workspace_size,
    gemm_workspace_size,
};
pub use layers::{
    drop_elements, drop_in_place, embedding_backward, embedding_forward, gather_rows, layer_norm_again,
    layer_norm_backward_add, layer_norm_forward,
};
pub use linear::{
    LowRank, Residual, linear_activation_backward_input, linear_backward_input, linear_backward_weight, linear_forward,
    low_rank_backward_input, low_rank_backward_weight, low_rank_forward,
};
pub use lm_head::{LossScratch, chunk_rows, lm_head_loss_forward, lm_head_loss_forward_backward};
pub use memory::{
    add_scaled, copy, copy_rows, dequantize, fill, fill_normal, fill_positions, fill_uniform, read, read_into,
    read_to_host, scale, write, write_from_host, write_ids, write_raw, zero,
};
pub use optimizer::{adamw, all_finite, find_touched, sum_of_squares};
pub use roofline::{multiply_in_registers, read_memory, update_memory};
pub use weights::{ReadRows, WeightSource, dequantize_to_host, weights, weights_of};

pub use crate::device::{Affine, Clock, Device, Epilogue, Init, KvRows, Phase, PhaseTotal, RowSet, Work};
