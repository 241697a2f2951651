//! The GPT-2 family: layers with a forward and a backward written by hand.
//!
//! In reading order: [`config`], [`Linear`] (with [`Adapter`]s), [`LayerNorm`], [`Attention`], [`Mlp`], [`Block`], [`Head`],
//! [`Gpt`], [`params`] (the table of parameters and the visitor), [`Gradients`], [`KvPool`]. A layer is a struct of
//! parameters; the same type holds its gradients and its two Adam moments. `…Saved` is what forward saves for backward,
//! `…Scratch` is work space that exists once for the whole model.

mod adapter;
mod attention;
mod backward;
mod batch;
mod block;
mod by_parts;
pub mod config;
mod dropout;
mod explain;
mod extend;
mod gpt;
mod gradients;
mod head;
mod init;
mod kv_pool;
mod layer_norm;
mod linear;
mod loss;
mod memory;
mod mlp;
pub mod params;
mod settings;
mod stored;
mod trainable;
mod transfer;
mod zeros;

pub use adapter::{Adapter, AdapterScratch};
pub use attention::{Attend, Attention, AttentionSaved, AttentionScratch};
pub use batch::{Batch, BatchSlices};
pub use block::{Block, BlockSaved, BlockScratch, ForwardScratch};
pub use by_parts::logits_by_parts;
pub use config::{AttentionScale, ConfigError, Init, ModelConfig, Preset};
pub use dropout::{Dropout, Masks};
pub use extend::{ExtendScratch, Rows};
pub use gpt::{Gpt, Saved, Scratch};
pub use gradients::{EmbeddingGradient, GradientSink, Gradients, HeadGradient, PartGradient, ReturnAll, Weights};
pub use head::Head;
pub use kv_pool::{KvError, KvPool, PAGE_LEN, PageTable, kv_page_bytes, n_pages};
pub use layer_norm::{LayerNorm, LayerNormSaved};
pub use linear::Linear;
pub use memory::{ParameterBytes, TrainingMemory, TrainingSizes, gradient_and_moment_bytes, logits_bytes};
pub use mlp::{Mlp, MlpSaved};
pub use stored::{StoredMatrix, StoredWeights};
pub use trainable::{Part, Trainable};

pub use crate::ops::Activation;
