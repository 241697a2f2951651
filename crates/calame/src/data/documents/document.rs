//! A document, read whole or in pieces.

use super::cut::{PIECE_BYTES, cut_position};
use super::error::DocumentError;
use super::text::TextStream;

/// Maximum size in bytes of a document that is a line or a row.
pub const MAX_DOCUMENT_BYTES: usize = 64 << 20;

/// A document of which at most one piece has to be in memory.
pub(in crate::data) enum Document {
    /// A text file, read piece by piece.
    Stream(TextStream),
    /// A line or a row, already in memory.
    Whole(String),
}

impl Document {
    /// Returns the next piece and whether it is the last, or `None` after the last.
    pub(in crate::data) fn next_piece(&mut self) -> Result<Option<(String, bool)>, DocumentError> {
        match self {
            Document::Stream(stream) => stream.next_piece(),
            Document::Whole(text) if text.is_empty() => Ok(None),
            Document::Whole(text) if text.len() <= PIECE_BYTES => Ok(Some((std::mem::take(text), true))),
            Document::Whole(text) => {
                let rest = text.split_off(cut_position(text, PIECE_BYTES));
                Ok(Some((std::mem::replace(text, rest), false)))
            }
        }
    }
}

/// One item read from a source.
pub(in crate::data) enum Found {
    /// A document, not yet read if it is a text file.
    Document(Document),
    /// A line or row that is not a document: its number from 1, and the reason.
    Bad(u64, String),
}
