//! A file, line or row with its documents, read in pieces.

use super::error::DocumentError;
use super::pending::{After, Pending};
use super::text::TextStream;

/// Maximum size in bytes of a document that is a line or a row.
pub const MAX_DOCUMENT_BYTES: usize = 64 << 20;

/// A text of which at most one piece has to be in memory. It is one document, or several with separators between them.
pub(in crate::data) enum Document {
    /// A text file, read piece by piece.
    Stream(TextStream),
    /// A line or a row, already in memory.
    Whole(Pending),
}

impl Document {
    /// A line or a row; `separates` says whether `<|endoftext|>` separates documents.
    pub(super) fn whole(text: &str, separates: bool) -> Document {
        let mut pending = Pending::new(separates);
        pending.push(text);
        Document::Whole(pending)
    }

    /// Returns the next piece and what follows it, or `None` after the end. A piece may be empty.
    pub(in crate::data) fn next_piece(&mut self) -> Result<Option<(String, After)>, DocumentError> {
        match self {
            Document::Stream(stream) => stream.next_piece(),
            Document::Whole(pending) => Ok(pending.take(true)),
        }
    }
}

/// One item read from a source.
pub(in crate::data) enum Found {
    /// A text, not yet read if it is a text file.
    Document(Document),
    /// A line or row that is not a document: its number from 1, and the reason.
    Bad(u64, String),
}
