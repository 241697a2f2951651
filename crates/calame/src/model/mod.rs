//! The GPT-2 family: layers with a forward and a backward written by hand, in reading order.
//!
//! [`config`], [`linear`](Linear), [`layer_norm`](LayerNorm), [`attention`](Attention), [`kv_cache`](KvCache),
//! [`mlp`](Mlp), [`block`](Block), [`gpt`](Gpt), [`params`] (the visitor). A layer is a struct of parameters; the same type
//! holds its gradients and its two Adam moments. `…Saved` is what forward keeps for backward, `…Scratch` is work space
//! that exists once for the whole model.

mod attention;
mod block;
mod by_parts;
pub mod config;
mod dropout;
mod extend;
mod gpt;
mod init;
mod kv_cache;
mod layer_norm;
mod linear;
mod mlp;
pub mod params;
mod room;

pub use attention::{Attention, AttentionSaved, AttentionScratch};
pub use block::{Block, BlockSaved, BlockScratch};
pub use by_parts::logits_by_parts;
pub use config::{ConfigError, Init, ModelConfig, Preset};
pub use dropout::{Dropout, Masks};
pub use extend::{ExtendScratch, Rows};
pub use gpt::{Gpt, Part, Saved, Scratch};
pub use kv_cache::KvCache;
pub use layer_norm::{LayerNorm, LayerNormSaved};
pub use linear::Linear;
pub use mlp::{Mlp, MlpSaved, MlpScratch};
pub use room::{ParameterBytes, TrainingRoom, TrainingSizes, generation_bytes};
