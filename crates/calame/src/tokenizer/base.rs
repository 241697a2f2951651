//! The trait that every tokenizer implements, and helpers shared by the implementations.

use super::error::TokenizerError;
use super::lists::BpeLists;
use super::piece_cache::PieceCache;
use crate::files::Sha256;

/// Text of the token between two documents, in every tokenizer that has one.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// How to treat the text of a special token (such as `<|endoftext|>`) within a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// Return an error that names it, like tiktoken's `encode`.
    Forbid,
    /// Replace it by its id.
    Allow,
    /// Encode it as ordinary text, like tiktoken's `encode_ordinary`.
    AsText,
}

/// A mapping between text and token ids.
pub trait Tokenizer: Send + Sync {
    /// The kind: `"gpt2"`, `"simple-v1"`, `"simple-v2"`, or `"bpe"` for another byte-level BPE read from a file.
    fn kind(&self) -> &'static str;

    /// Number of ids including special tokens; ids are `0..n_vocab`.
    fn n_vocab(&self) -> usize;

    /// The id of `<|endoftext|>`, if the tokenizer has one.
    fn end_of_text(&self) -> Option<u32>;

    /// Encodes a text as token ids.
    ///
    /// # Errors
    /// [`TokenizerError::ForbiddenSpecial`] under [`Special::Forbid`];
    /// [`TokenizerError::UnknownWord`] if the tokenizer has neither the word nor a token for unknown words.
    fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>, TokenizerError>;

    /// Decodes ids to bytes, which may end inside a UTF-8 sequence.
    ///
    /// The bytes of a list start with those of each of its prefixes, and the bytes that an id adds depend only
    /// on it and the id before it; [`StreamDecoder`](crate::tokenizer::StreamDecoder) relies on both.
    ///
    /// # Errors
    /// [`TokenizerError::UnknownId`] for an id that is [`n_vocab`](Tokenizer::n_vocab) or more.
    fn decode_bytes(&self, ids: &[u32]) -> Result<Vec<u8>, TokenizerError>;

    /// Decodes ids to text; invalid UTF-8 is replaced by U+FFFD.
    ///
    /// # Errors
    /// As [`decode_bytes`](Tokenizer::decode_bytes).
    fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        Ok(String::from_utf8_lossy(&self.decode_bytes(ids)?).into_owned())
    }

    /// Appends the ids of a text to `ids`, as [`encode`](Tokenizer::encode) returns them. Ids of pieces seen in
    /// earlier texts may be taken from `cache`, and new ones added to it.
    ///
    /// # Errors
    /// As [`encode`](Tokenizer::encode); some ids may have been appended in that case.
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

    /// Where a text is cut that is to be cut at byte `at`, so that both parts have only words of the whole text: `at`
    /// itself, unless a vocabulary of words would miss the halves of a divided word, or `at` divides or follows the text
    /// of a special token, which then begins the second part.
    fn cut_at(&self, text: &str, at: usize) -> usize {
        before_special(&self.special_texts(), text, at)
    }

    /// Texts of the special tokens, in the order of their ids.
    fn special_texts(&self) -> Vec<&str>;

    /// The tokenizer as lists if it is a byte-level BPE, for formats other than `tokenizer.json`.
    fn bpe_lists(&self) -> Option<BpeLists> {
        None
    }

    /// The tokenizer as a `tokenizer.json` in Hugging Face's format; [`read_json`](crate::tokenizer::read_json) reads it back.
    fn to_json(&self) -> String;

    /// SHA-256 (hex) of kind, vocabulary and merge order; independent of the formatting of any JSON.
    fn hash(&self) -> String;
}

/// The role of a token in its vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The tokenizer's model makes it from text.
    Ordinary,
    /// Its text is found before the model runs, where the caller allows it.
    Special,
    /// Its text is found before the model runs.
    Added,
}

/// The start of the special token that begins before byte `at` of `text` and ends at or after it; otherwise `at`.
pub(super) fn before_special(specials: &[&str], text: &str, at: usize) -> usize {
    let starts = |special: &&str| {
        let first = at.saturating_sub(special.len());
        (first..at).find(|&start| text.as_bytes()[start..].starts_with(special.as_bytes()))
    };
    specials.iter().filter_map(starts).min().unwrap_or(at)
}

/// Hashes a vocabulary: its kind, then each token in id order with its role. In our byte-level BPE the order of the ids is
/// the order of the merges, so the hash covers the merges too.
pub(super) fn hash_vocabulary<'a>(kind: &str, tokens: impl Iterator<Item = (&'a [u8], Role)>) -> String {
    let mut hasher = Sha256::new();
    let mut update = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    update(kind.as_bytes());
    for (token, role) in tokens {
        update(token);
        update(&[role as u8]);
    }

    hasher.finish()
}
