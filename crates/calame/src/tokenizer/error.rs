//! What can go wrong with a text, with ids and with a tokenizer's file.

use std::path::PathBuf;

use crate::files::FileError;

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
