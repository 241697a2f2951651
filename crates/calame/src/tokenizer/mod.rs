//! From text to token ids and back.
//!
//! There is one trait, [`Tokenizer`], with two families of implementations: [`Bpe`], GPT-2's byte-level byte-pair
//! encoding (its vocabulary is built in), and [`SimpleTokenizer`], two word tokenizers built from a text. A
//! tokenizer is saved as a `tokenizer.json` in Hugging Face's format, which [`read_json`] reads.
//! [`Tokenizer::hash`] identifies equal tokenizers. [`Encoder`] encodes many texts, [`train`] trains a byte-level
//! BPE, and [`StreamDecoder`] decodes ids that arrive one by one.

mod base;
mod bounds;
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
mod vocabulary_files;
mod words;

pub use base::{END_OF_TEXT, Special, Tokenizer};
pub use bounds::TextBounds;
pub use bpe::Bpe;

pub use config::TokenizerConfig;
pub use encoder::Encoder;
pub use error::TokenizerError;
pub use lists::BpeLists;
pub use piece_cache::PieceCache;
pub use read::{MAX_FILE_BYTES, read_json};
pub use stream::StreamDecoder;
pub use train::{MAX_VOCAB, MIN_VOCAB, TrainError, train};
pub use vocabulary_files::VocabularyFiles;
pub use words::SimpleTokenizer;
