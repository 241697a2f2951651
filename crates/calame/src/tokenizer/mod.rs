//! From text to token ids and back.
//!
//! One trait, [`Tokenizer`], and two families behind it: [`Bpe`], the byte-level byte-pair encoding of GPT-2
//! (its vocabulary is inside the program), and [`SimpleTokenizer`], the two word tokenizers built from a text.
//! A tokenizer is saved as a `tokenizer.json` in Hugging Face's format and read back by [`read_json`];
//! [`Tokenizer::hash`] tells whether two of them are the same.
//! [`Encoder`] encodes text after text, [`train`] learns a byte-level BPE, [`StreamDecoder`] gives the text of ids that arrive one by one.

mod base;
mod bpe;
mod bpe_json;
mod byte_level;
mod config;
mod encoder;
mod error;
mod json;
mod lists;
mod piece_cache;
mod pieces;
mod read;
mod stream;
mod train;
mod vocabulary;
mod words;

pub use base::{END_OF_TEXT, Special, Tokenizer};
pub use bpe::Bpe;
pub use config::TokenizerConfig;
pub use encoder::Encoder;
pub use error::TokenizerError;
pub use lists::BpeLists;
pub use piece_cache::PieceCache;
pub use read::read_json;
pub use stream::StreamDecoder;
pub use train::{MAX_VOCAB, MIN_VOCAB, TrainError, train};
pub use words::SimpleTokenizer;
