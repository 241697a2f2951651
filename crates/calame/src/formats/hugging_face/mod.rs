//! A saved model: a folder in Hugging Face's layout that `transformers` loads as `GPT2LMHeadModel`.
//!
//! `config.json`, `model.safetensors`, `tokenizer.json`, `generation_config.json`. What only calame knows is stored in
//! config.json under `calame`: whether there are biases and a qkv bias (a model without them is written with zeros,
//! because the format has no way to leave them out), and the tokenizer's hash.

mod layout;
mod read;
mod stated;
mod write;

pub(super) use layout::{CONFIG, TOKENIZER, WEIGHTS};
pub(super) use read::{read_config, read_tokenizer, read_tokenizer_file};
pub(super) use stated::Stated;
pub(super) use write::write_settings;
pub use write::{save_model, write_hugging_face, write_hugging_face_as};
