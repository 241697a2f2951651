//! The verbs of the program, one file or folder per verb.

pub mod bench;
pub mod chat;
pub mod compare;
pub mod completions;
pub mod config;
pub mod data;
pub mod eval;
pub mod explain;
pub mod export;
pub mod generate;
pub mod inspect;
pub mod logits;
pub mod man;
mod outputs;
pub mod plan;
pub mod plot;
pub mod reproduce;
pub mod runs;
pub mod strategies;
pub mod tokenize;
pub mod tokenizer;
pub mod train;
pub mod version;
