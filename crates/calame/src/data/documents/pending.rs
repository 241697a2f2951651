//! Text that was read but not returned yet, from which pieces are taken.

use memchr::memmem;

use super::cut::{PIECE_BYTES, cut_position};
use crate::tokenizer::END_OF_TEXT;

/// Bytes that must be read, or the end of the text, before a piece is taken: a separator may begin at the last byte
/// of a piece.
pub(super) const LOOKAHEAD_BYTES: usize = PIECE_BYTES + END_OF_TEXT.len();

/// What follows a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::data) enum After {
    /// The next piece of the same document.
    Piece,
    /// A separator, then another document of the same file, line or row.
    Separator,
    /// Nothing: it is the last piece of the file, line or row.
    End,
}

/// A text whose beginning has been read.
#[derive(Clone, Debug)]
pub(in crate::data) struct Pending {
    text: String,
    /// Start of the part that was not returned yet.
    start: usize,
    separates: bool,
    is_done: bool,
}

impl Pending {
    /// An empty text; `separates` says whether `<|endoftext|>` separates documents.
    pub(super) fn new(separates: bool) -> Pending {
        Pending { text: String::new(), start: 0, separates, is_done: false }
    }

    /// Number of bytes that were read but not returned.
    pub(super) fn len(&self) -> usize {
        self.text.len() - self.start
    }

    /// Appends text that was read.
    pub(super) fn push(&mut self, text: &str) {
        // Moved rarely: only when more is needed, and then less than a piece is left.
        self.text.drain(..self.start);
        self.start = 0;
        self.text.push_str(text);
    }

    /// Takes the next piece of at most [`PIECE_BYTES`], which may be empty, and what follows it; `None` after the
    /// end. [`LOOKAHEAD_BYTES`] must be there, or `is_complete` be set: nothing more can be read.
    pub(super) fn take(&mut self, is_complete: bool) -> Option<(String, After)> {
        debug_assert!(is_complete || self.len() >= LOOKAHEAD_BYTES, "pending: {} bytes", self.len());
        if self.is_done {
            return None;
        }
        let rest = &self.text[self.start..];
        let window = &rest.as_bytes()[..rest.len().min(LOOKAHEAD_BYTES)];
        let separator = if self.separates { memmem::find(window, END_OF_TEXT.as_bytes()) } else { None };
        let (n_bytes, n_skipped, after) = match separator {
            Some(at) => (at, END_OF_TEXT.len(), After::Separator),
            None if rest.len() > PIECE_BYTES => (cut_position(rest, PIECE_BYTES), 0, After::Piece),
            None => (rest.len(), 0, After::End),
        };
        let piece = rest[..n_bytes].to_owned();
        self.start += n_bytes + n_skipped;
        self.is_done = after == After::End;
        Some((piece, after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(text: &str, separates: bool) -> Vec<(String, After)> {
        let mut pending = Pending::new(separates);
        pending.push(text);
        std::iter::from_fn(|| pending.take(true)).collect()
    }

    #[test]
    fn a_separator_ends_a_document() {
        let taken = take_all("one\n<|endoftext|>two<|endoftext|>", true);
        let expected = [("one\n", After::Separator), ("two", After::Separator), ("", After::End)];
        assert!(taken.iter().map(|(text, after)| (text.as_str(), *after)).eq(expected), "{taken:?}");
        assert_eq!(take_all("one<|endoftext|>two", false).len(), 1);
        assert_eq!(take_all("", true), [(String::new(), After::End)]);
    }

    /// Without white space the cut is anywhere, but never inside a separator.
    #[test]
    fn a_separator_at_the_end_of_a_piece_is_found() {
        for n_before in (PIECE_BYTES - 14)..=(PIECE_BYTES + 1) {
            let taken = take_all(&format!("{}{END_OF_TEXT}b", "a".repeat(n_before)), true);
            let documents = taken.iter().filter(|(_, after)| *after != After::Piece).count();
            assert_eq!(documents, 2, "{n_before} bytes before the separator");
            let n_bytes: usize = taken.iter().map(|(piece, _)| piece.len()).sum();
            assert_eq!(n_bytes, n_before + 1);
        }
    }
}
