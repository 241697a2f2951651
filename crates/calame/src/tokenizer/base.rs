//! The trait of every tokenizer, and what its implementations share.

use super::error::TokenizerError;
use super::lists::BpeLists;
use super::piece_cache::PieceCache;
use crate::files::Sha256;

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

    /// Appends the ids of a text to `ids`, as [`encode`](Tokenizer::encode); what is known of pieces of earlier texts may
    /// come from `cache` and be added to it.
    ///
    /// # Errors
    /// As [`encode`](Tokenizer::encode); some ids may have been appended then.
    fn encode_with(
        &self,
        text: &str,
        special: Special,
        cache: &mut PieceCache,
        ids: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let _ = cache;
        ids.extend(self.encode(text, special)?);
        Ok(())
    }

    /// The texts of the special tokens, in the order of their ids.
    fn special_texts(&self) -> Vec<&str>;

    /// The tokenizer as lists if it is a byte-level BPE, which other formats than `tokenizer.json` hold too.
    fn bpe_lists(&self) -> Option<BpeLists> {
        None
    }

    /// The tokenizer as a `tokenizer.json` in Hugging Face's format, which [`read_json`] reads back.
    fn to_json(&self) -> String;

    /// SHA-256 (hex) of kind, vocabulary and merge order, independent of the formatting of any JSON.
    fn hash(&self) -> String;
}

/// The hash of a vocabulary: its kind, then each token in the order of the ids with whether it is special.
/// In the byte-level BPE here the order of the ids is the order of the merges, so that this covers them.
pub(super) fn hash_vocabulary<'a>(kind: &str, tokens: impl Iterator<Item = (&'a [u8], bool)>) -> String {
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
