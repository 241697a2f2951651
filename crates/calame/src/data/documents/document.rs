//! A document, whole or in pieces.

use super::cut::{PIECE_BYTES, cut_place};
use super::error::DocumentError;
use super::text::TextStream;

/// Bytes of the longest document that is a line or a row.
pub const MAX_DOCUMENT_BYTES: usize = 64 << 20;

/// A document, of which no more than a piece need be in memory.
pub(in crate::data) enum Document {
    /// A text file.
    Stream(TextStream),
    /// A line or a row.
    Whole(String),
}

impl Document {
    /// The next piece, and whether the document ends with it; none after the last.
    pub(in crate::data) fn next_piece(&mut self) -> Result<Option<(String, bool)>, DocumentError> {
        match self {
            Document::Stream(stream) => stream.next_piece(),
            Document::Whole(text) if text.is_empty() => Ok(None),
            Document::Whole(text) if text.len() <= PIECE_BYTES => Ok(Some((std::mem::take(text), true))),
            Document::Whole(text) => {
                let rest = text.split_off(cut_place(text, PIECE_BYTES));
                Ok(Some((std::mem::replace(text, rest), false)))
            }
        }
    }
}

/// What a source gives next.
pub(in crate::data) enum Found {
    /// A document.
    Document(Document),
    /// A line or row that is none, by number from 1, and why.
    Bad(u64, String),
}
