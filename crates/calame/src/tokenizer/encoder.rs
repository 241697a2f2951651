//! Encodes many texts, caching the ids of pieces.

use super::base::{Special, Tokenizer};
use super::error::TokenizerError;
use super::piece_cache::PieceCache;

/// Encodes many texts in sequence. The ids are those of [`Tokenizer::encode`], but a byte-level BPE merges the
/// bytes of a repeated word only once. The cache is bounded (about 10 MB).
pub struct Encoder<'a> {
    tokenizer: &'a dyn Tokenizer,
    cache: PieceCache,
}

impl<'a> Encoder<'a> {
    /// An encoder with an empty cache.
    pub fn new(tokenizer: &'a dyn Tokenizer) -> Encoder<'a> {
        Encoder { tokenizer, cache: PieceCache::default() }
    }

    /// Appends the ids of `text` to `ids`.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`]; some ids may have been appended in that case.
    pub fn encode(&mut self, text: &str, special: Special, ids: &mut Vec<u32>) -> Result<(), TokenizerError> {
        self.tokenizer.encode_with(text, special, &mut self.cache, ids)
    }
}

#[cfg(test)]
mod tests {
    use super::super::bpe::Bpe;
    use super::super::piece_cache::MAX_PIECES;
    use super::*;

    #[test]
    fn cached_pieces_have_the_ids_of_encode() {
        let gpt2 = Bpe::gpt2();
        let mut encoder = Encoder::new(gpt2.as_ref());
        // More distinct words than the cache holds, some longer than the longest cached piece.
        let text: String = (0..MAX_PIECES + 500).map(|i| format!(" w{i}{}", "ab".repeat(i % 40))).collect();
        for _ in 0..2 {
            let mut ids = vec![7];
            encoder.encode(&text, Special::Forbid, &mut ids).unwrap();
            assert!(encoder.cache.len() <= MAX_PIECES);
            assert_eq!(ids[0], 7);
            assert!(ids[1..] == gpt2.encode(&text, Special::Forbid).unwrap());
        }
        assert!(encoder.encode("<|endoftext|>", Special::Forbid, &mut Vec::new()).is_err());
    }
}
