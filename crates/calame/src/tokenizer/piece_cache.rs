//! Caches the token ids of text pieces.

use rustc_hash::FxHashMap;

use super::pieces::pieces;

/// Maximum number of cached pieces; a full cache is emptied.
pub(super) const MAX_PIECES: usize = 1 << 17;
/// Maximum length of a cached piece in bytes; longer ones rarely occur twice. Together the two limits bound the
/// cache to about 10 MB.
const MAX_PIECE_BYTES: usize = 64;

/// The ids of the pieces encoded so far, in bounded memory (about 10 MB).
#[derive(Clone, Debug, Default)]
pub struct PieceCache {
    /// Position of a piece's ids in `ids`: start and count.
    positions: FxHashMap<Box<[u8]>, (u32, u32)>,
    ids: Vec<u32>,
}

impl PieceCache {
    /// Appends the ids of a text without special tokens to `out`; `merge` computes the ids of an uncached piece.
    pub(super) fn encode(&mut self, text: &str, merge: impl Fn(&str) -> Vec<u32>, out: &mut Vec<u32>) {
        for piece in pieces(text) {
            if let Some(&(start, n)) = self.positions.get(piece.as_bytes()) {
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

    /// Number of cached pieces.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.positions.len()
    }

    fn remember(&mut self, piece: &str, ids: &[u32]) {
        if self.positions.len() == MAX_PIECES {
            self.positions.clear();
            self.ids.clear();
        }
        // At most `MAX_PIECES` pieces of at most `MAX_PIECE_BYTES` ids each, so far below 2³².
        let place = (self.ids.len() as u32, ids.len() as u32);
        self.ids.extend_from_slice(ids);
        self.positions.insert(piece.as_bytes().into(), place);
    }
}
