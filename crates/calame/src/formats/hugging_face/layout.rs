//! The names of a folder's files.

pub(in crate::formats) const CONFIG: &str = "config.json";
pub(in crate::formats) const WEIGHTS: &str = "model.safetensors";
pub(in crate::formats) const TOKENIZER: &str = "tokenizer.json";
