//! calame

pub mod tokenizer;
