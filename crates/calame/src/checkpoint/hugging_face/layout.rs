//! The names of a folder's files.

pub(in crate::checkpoint) const CONFIG: &str = "config.json";
pub(in crate::checkpoint) const WEIGHTS: &str = "model.safetensors";
pub(in crate::checkpoint) const TOKENIZER: &str = "tokenizer.json";
