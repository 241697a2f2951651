//! Errors of texts, ids and tokenizer files.

use std::path::PathBuf;

use crate::files::FileError;

/// An invalid text, list of ids or `tokenizer.json`.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The text contains a special token where these are forbidden.
    #[error(
        "the text contains the special token {token:?} at byte {at}; allow special tokens, or encode them as ordinary text"
    )]
    ForbiddenSpecial {
        /// Text of the special token.
        token: String,
        /// Byte offset from the start of the text.
        at: usize,
    },
    /// A word outside the vocabulary of a tokenizer that has no token for unknown words.
    #[error(
        "the word {word:?} is not in the vocabulary of {n_vocab} words; simple-v2 has a token for unknown words, gpt2 encodes any text"
    )]
    UnknownWord {
        /// The word, truncated if it is long.
        word: String,
        /// Number of ids of the tokenizer.
        n_vocab: usize,
    },
    /// A byte that no token of the vocabulary spells.
    #[error(
        "the vocabulary has no token for the byte {byte:#04x} (at byte {at} of the text): it was made from texts without it; remove it, or use another tokenizer"
    )]
    UnknownByte {
        /// The byte that has no token.
        byte: u8,
        /// Byte offset from the start of the text.
        at: usize,
    },
    /// An id that is not in the vocabulary.
    #[error("token id {id} is not in the vocabulary: ids are 0 to {}", n_vocab.saturating_sub(1))]
    UnknownId {
        /// The id that was passed.
        id: u32,
        /// Number of ids of the tokenizer.
        n_vocab: usize,
    },
    /// A name that is neither a kind of tokenizer nor a file.
    #[error("tokenizer.kind is '{kind}': expected gpt2, simple-v1, simple-v2 or the path of a tokenizer.json")]
    UnknownKind {
        /// The kind that the caller asked for.
        kind: String,
    },
    /// A `tokenizer.json` that cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A text without a single word, from which no vocabulary can be built.
    #[error("the text has no word to build a vocabulary from; give a text that is not blank")]
    NoWords,
    /// A tokenizer's file that is not JSON or lacks fields of the format.
    #[error("{}: expected {what}, found: {source}", path.display())]
    Json {
        /// Path of the file.
        path: PathBuf,
        /// What the file should contain, as messages name it.
        what: &'static str,

        /// The parser's error, with line and column if known.
        source: serde_json::Error,
    },
    /// A well-formed `tokenizer.json` that would be encoded differently here.
    #[error("{}: {field}: expected {expected}, found {found}", path.display())]
    Unsupported {
        /// Path of the file.
        path: PathBuf,
        /// The affected field or token.
        field: String,
        /// What this program can represent.
        expected: String,
        /// What the file contains, truncated if it is long.
        found: String,
    },
}
