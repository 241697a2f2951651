//! A saved model: a folder in Hugging Face's layout that `transformers` loads as `GPT2LMHeadModel`.
//!
//! `config.json`, `model.safetensors`, `tokenizer.json`, `generation_config.json`, and the `tokenizer_config.json` and
//! `special_tokens_map.json` that other programs' tokenizer classes look for. What only calame knows is stored in
//! config.json under `calame`: whether there are biases and a qkv bias (a model without them is written with zeros,
//! because the format has no way to leave them out), and the tokenizer's hash.

mod layout;
mod read;
mod stated;
mod text;
mod write;

pub(super) use layout::{
    ADDED_TOKENS, CONFIG, GENERATION, MERGES, SPECIAL_TOKENS, TOKENIZER, TOKENIZER_CONFIG, VOCAB, WEIGHTS,
};
pub(super) use read::read_config;
pub(super) use stated::Stated;
pub use text::load_tokenizer;
pub(super) use text::{read_text_settings, read_tokenizer_file};
pub(super) use write::write_settings;
pub use write::{save_model, write_hugging_face, write_hugging_face_as};
