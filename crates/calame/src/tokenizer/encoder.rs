//! Encoding text after text, with a memory for pieces that were seen.

use rustc_hash::FxHashMap;

use super::pieces::pieces;
use super::{Bpe, Special, Tokenizer, TokenizerError};

/// Pieces that are remembered at most; then all are forgotten.
const MAX_PIECES: usize = 1 << 17;
/// Bytes of the longest piece that is remembered.
const MAX_PIECE_BYTES: usize = 64;

/// A tokenizer for many texts one after another: it gives what [`Tokenizer::encode`] gives, and a byte-level BPE merges the
/// bytes of a word that comes again only once. Its memory is bounded (some ten megabytes).
pub struct Encoder<'a> {
    tokenizer: &'a dyn Tokenizer,
    seen: Pieces,
}

impl<'a> Encoder<'a> {
    /// An encoder that has seen nothing yet.
    pub fn new(tokenizer: &'a dyn Tokenizer) -> Encoder<'a> {
        Encoder { tokenizer, seen: Pieces::default() }
    }

    /// Adds the ids of `text` to `ids`.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`]; some ids may have been added then.
    pub fn encode(&mut self, text: &str, special: Special, ids: &mut Vec<u32>) -> Result<(), TokenizerError> {
        match self.tokenizer.as_bpe() {
            Some(bpe) => bpe.encode_with(text, special, &mut self.seen, ids),
            None => {
                ids.extend(self.tokenizer.encode(text, special)?);
                Ok(())
            }
        }
    }
}

/// The ids of the pieces seen so far.
#[derive(Default)]
pub(super) struct Pieces {
    /// Where the ids of a piece stand in `ids`: start and number.
    places: FxHashMap<Box<[u8]>, (u32, u32)>,
    ids: Vec<u32>,
}

impl Pieces {
    /// Adds the ids of a text without special tokens to `out`.
    pub(super) fn encode(&mut self, bpe: &Bpe, text: &str, out: &mut Vec<u32>) {
        for piece in pieces(text) {
            if let Some(&(start, n)) = self.places.get(piece.as_bytes()) {
                out.extend_from_slice(&self.ids[start as usize..(start + n) as usize]);
                continue;
            }
            let ids = bpe.merge(piece);
            out.extend_from_slice(&ids);
            if piece.len() <= MAX_PIECE_BYTES {
                self.remember(piece, &ids);
            }
        }
    }

    fn remember(&mut self, piece: &str, ids: &[u32]) {
        if self.places.len() == MAX_PIECES {
            self.places.clear();
            self.ids.clear();
        }
        // At most `MAX_PIECES` pieces of at most `MAX_PIECE_BYTES` ids each: far below 2³².
        let place = (self.ids.len() as u32, ids.len() as u32);
        self.ids.extend_from_slice(ids);
        self.places.insert(piece.as_bytes().into(), place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_what_is_encoded() {
        let gpt2 = Bpe::gpt2();
        let mut encoder = Encoder::new(gpt2.as_ref());
        // More different words than are remembered, some longer than the longest.
        let text: String = (0..MAX_PIECES + 500).map(|i| format!(" w{i}{}", "ab".repeat(i % 40))).collect();
        for _ in 0..2 {
            let mut ids = vec![7];
            encoder.encode(&text, Special::Forbid, &mut ids).unwrap();
            assert!(encoder.seen.places.len() <= MAX_PIECES);
            assert_eq!(ids[0], 7);
            assert!(ids[1..] == gpt2.encode(&text, Special::Forbid).unwrap());
        }
        assert!(encoder.encode("<|endoftext|>", Special::Forbid, &mut Vec::new()).is_err());
    }
}
