//! A memory for the pieces of texts that were encoded before.

use rustc_hash::FxHashMap;

use super::pieces::pieces;

/// Pieces that are remembered at most; then all are forgotten.
pub(super) const MAX_PIECES: usize = 1 << 17;
/// Bytes of the longest piece that is remembered.
const MAX_PIECE_BYTES: usize = 64;

/// The ids of pieces of the texts encoded so far; its memory is bounded (some ten megabytes).
#[derive(Clone, Debug, Default)]
pub struct PieceCache {
    /// Where the ids of a piece stand in `ids`: start and number.
    places: FxHashMap<Box<[u8]>, (u32, u32)>,
    ids: Vec<u32>,
}

impl PieceCache {
    /// Appends the ids of a text without special tokens to `out`; `merge` gives the ids of a piece that is not known yet.
    pub(super) fn encode(&mut self, text: &str, merge: impl Fn(&str) -> Vec<u32>, out: &mut Vec<u32>) {
        for piece in pieces(text) {
            if let Some(&(start, n)) = self.places.get(piece.as_bytes()) {
                out.extend_from_slice(&self.ids[start as usize..(start + n) as usize]);
                continue;
            }
            let ids = merge(piece);
            out.extend_from_slice(&ids);
            if piece.len() <= MAX_PIECE_BYTES {
                self.remember(piece, &ids);
            }
        }
    }

    /// The number of pieces that are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.places.len()
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
