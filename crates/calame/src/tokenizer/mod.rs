//! From text to token ids and back.
//!
//! One trait, [`Tokenizer`], and two families behind it: [`Bpe`], the byte-level byte-pair encoding of GPT-2
//! (its vocabulary is inside the program), and [`SimpleTokenizer`], the two word tokenizers built from a text.
//! A tokenizer is saved as a `tokenizer.json` in Hugging Face's format and read back by [`read_json`];
//! [`Tokenizer::hash`] tells whether two of them are the same.
//! [`Encoder`] encodes text after text, [`train`] learns a byte-level BPE, [`StreamDecoder`] gives the text of ids that arrive one by one.

mod byte_level;
mod config;
mod encoder;
mod gpt2;
mod gpt2_json;
mod json;
mod pieces;
mod simple;
mod stream;
mod train;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::files::{FileError, Sha256};

pub use config::TokenizerConfig;
pub use encoder::Encoder;
pub use gpt2::{Bpe, BpeLists};
pub use simple::SimpleTokenizer;
pub use stream::StreamDecoder;
pub use train::{MAX_VOCAB, MIN_VOCAB, TrainError, train};

/// The text that stands between two documents, in every tokenizer that has such a token.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// What to do with a special token's text (such as `<|endoftext|>`) found in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// An error that names it, as tiktoken's `encode`.
    Forbid,
    /// Becomes its id.
    Allow,
    /// Is encoded as ordinary text (tiktoken's `encode_ordinary`).
    AsText,
}

/// A mapping between text and token ids.
pub trait Tokenizer: Send + Sync {
    /// `"gpt2"`, `"simple-v1"`, `"simple-v2"`, or `"bpe"` for another byte-level BPE read from a file.
    fn kind(&self) -> &'static str;

    /// Number of ids, special tokens included; ids are `0..n_vocab`.
    fn n_vocab(&self) -> usize;

    /// The id of `<|endoftext|>`, where the tokenizer has one.
    fn end_of_text(&self) -> Option<u32>;

    /// The ids of a text.
    ///
    /// # Errors
    /// [`TokenizerError::ForbiddenSpecial`] under [`Special::Forbid`];
    /// [`TokenizerError::UnknownWord`] where the tokenizer has neither the word nor a token for unknown ones.
    fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>, TokenizerError>;

    /// The bytes of the ids; they may end inside a UTF-8 sequence.
    ///
    /// The bytes of a list begin with those of each of its prefixes, and what an id adds depends on no id
    /// but itself and the one before it; [`StreamDecoder`] relies on both.
    ///
    /// # Errors
    /// [`TokenizerError::UnknownId`] for an id that is not below [`n_vocab`](Tokenizer::n_vocab).
    fn decode_bytes(&self, ids: &[u32]) -> Result<Vec<u8>, TokenizerError>;

    /// The ids as text, ill-formed UTF-8 replaced by U+FFFD.
    ///
    /// # Errors
    /// As [`decode_bytes`](Tokenizer::decode_bytes).
    fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        Ok(String::from_utf8_lossy(&self.decode_bytes(ids)?).into_owned())
    }

    /// The tokenizer itself if it is a byte-level BPE, which other formats than `tokenizer.json` hold too.
    fn as_bpe(&self) -> Option<&Bpe> {
        None
    }

    /// The tokenizer as a `tokenizer.json` in Hugging Face's format, which [`read_json`] reads back.
    fn to_json(&self) -> String;

    /// SHA-256 (hex) of kind, vocabulary and merge order, independent of the formatting of any JSON.
    fn hash(&self) -> String;
}

/// What can go wrong with a text, a list of ids or a `tokenizer.json`.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A special token's text stands in a text where it is forbidden.
    #[error(
        "the text contains the special token {token:?} at byte {at}; allow special tokens, or encode them as ordinary text"
    )]
    ForbiddenSpecial {
        /// The special token's text.
        token: String,
        /// Where it begins, in bytes from the start of the text.
        at: usize,
    },
    /// A word that the vocabulary lacks, in a tokenizer without a token for unknown words.
    #[error(
        "the word {word:?} is not in the vocabulary of {n_vocab} words; simple-v2 has a token for unknown words, gpt2 encodes any text"
    )]
    UnknownWord {
        /// The word, shortened if it is long.
        word: String,
        /// Number of ids of the tokenizer.
        n_vocab: usize,
    },
    /// An id outside the vocabulary.
    #[error("token id {id} is not in the vocabulary: ids are 0 to {}", n_vocab.saturating_sub(1))]
    UnknownId {
        /// The id.
        id: u32,
        /// Number of ids of the tokenizer.
        n_vocab: usize,
    },
    /// A kind of tokenizer that does not exist, and no file of that name either.
    #[error("tokenizer.kind is '{kind}': expected gpt2, simple-v1, simple-v2 or the path of a tokenizer.json")]
    UnknownKind {
        /// The kind that was asked for.
        kind: String,
    },
    /// A `tokenizer.json` that cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A text without a single word, from which no vocabulary can be built.
    #[error("the text has no word to build a vocabulary from; give a text that is not blank")]
    NoWords,
    /// A `tokenizer.json` that is not JSON, or whose JSON has not the fields of the format.
    #[error("{}: expected a tokenizer.json in Hugging Face's format, found: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser found, with line and column where it has them.
        source: serde_json::Error,
    },
    /// A `tokenizer.json` that is well-formed, but would not encode the same here.
    #[error("{}: {field}: expected {expected}, found {found}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The field or the token.
        field: String,
        /// What this program can represent.
        expected: String,
        /// What stands in the file, shortened if it is long.
        found: String,
    },
}

/// Reads a `tokenizer.json` of any kind that a [`Tokenizer`] here writes, and any other byte-level BPE in
/// Hugging Face's format that encodes as GPT-2's does. `path` only names the file in errors.
///
/// # Errors
/// [`TokenizerError::Json`] and [`TokenizerError::Unsupported`]; both name the file.
pub fn read_json(text: &str, path: &Path) -> Result<Arc<dyn Tokenizer>, TokenizerError> {
    let file = json::File::parse(text, path)?;
    match file.model_type() {
        Some("BPE") => Ok(gpt2_json::from_file(file)?),
        Some("WordLevel") => Ok(Arc::new(SimpleTokenizer::from_file(file)?)),
        _ => {
            let found = json::shown(file.model.get("type"));
            Err(file.unsupported("model type", "\"BPE\" or \"WordLevel\"", found))
        }
    }
}

/// The hash of a vocabulary: its kind, then each token in the order of the ids with whether it is special.
/// In the byte-level BPE here the order of the ids is the order of the merges, so that this covers them.
fn hash_vocabulary<'a>(kind: &str, tokens: impl Iterator<Item = (&'a [u8], bool)>) -> String {
    let mut hasher = Sha256::new();
    let mut update = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    update(kind.as_bytes());
    for (token, special) in tokens {
        update(token);
        update(&[u8::from(special)]);
    }
    hasher.finish()
}
