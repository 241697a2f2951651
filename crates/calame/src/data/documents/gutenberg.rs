//! Removes Project Gutenberg's header and licence from its books.

/// Markers at the start of the line that ends the header, and of the line that begins the licence.
const START: [&str; 2] = ["*** START OF THE PROJECT GUTENBERG EBOOK", "*** START OF THIS PROJECT GUTENBERG EBOOK"];
const END: [&str; 2] = ["*** END OF THE PROJECT GUTENBERG EBOOK", "*** END OF THIS PROJECT GUTENBERG EBOOK"];

/// Strips header and licence from one document, piece by piece.
///
/// The header is searched for in the first piece (1 MiB), the licence in all pieces. A document without these lines
/// is left unchanged; white space next to them is removed with them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stripper {
    begun: bool,
    ended: bool,
    /// The header has been removed and only white space has followed it so far.
    at_start: bool,
}

impl Stripper {
    /// Returns what remains of the document's next piece.
    pub(crate) fn strip<'a>(&mut self, piece: &'a str) -> &'a str {
        let mut piece = piece;
        if self.ended {
            return "";
        }
        if !self.begun {
            self.begun = true;
            if let Some(at) = line_with(piece, &START) {
                let end_of_line = piece[at..].find('\n').map_or(piece.len(), |n| at + n + 1);
                piece = &piece[end_of_line..];
                self.at_start = true;
            }
        }
        if self.at_start {
            piece = piece.trim_start();
            self.at_start = piece.is_empty();
        }
        if let Some(at) = line_with(piece, &END) {
            piece = piece[..at].trim_end();
            self.ended = true;
        }
        piece
    }
}

/// Start of the first line that begins with one of the markers.
fn line_with(text: &str, marks: &[&str]) -> Option<usize> {
    let is_line = |at: usize| at == 0 || text.as_bytes()[at - 1] == b'\n';
    // Some old files write the marker without spaces; only the common form is recognised.
    marks.iter().flat_map(|mark| text.match_indices(mark)).map(|(at, _)| at).filter(|&at| is_line(at)).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strip(pieces: &[&str]) -> String {
        let mut stripper = Stripper::default();
        pieces.iter().map(|piece| stripper.strip(piece)).collect()
    }

    #[test]
    fn a_book_is_the_text_between_the_markers() {
        for article in ["THE", "THIS"] {
            let start = format!("licence\r\n*** START OF {article} PROJECT GUTENBERG EBOOK PENS ***\r\n\r\n");
            let end = format!("\r\n\r\n*** END OF {article} PROJECT GUTENBERG EBOOK PENS ***\r\nmore");
            assert_eq!(strip(&[&format!("{start}One.\r\n\r\nTwo.{end}")]), "One.\r\n\r\nTwo.");
            assert_eq!(strip(&[&start, "\nOne.", "\nTwo.", &end, "\nlaw"]), "One.\nTwo.");
        }
    }

    #[test]
    fn other_texts_are_unchanged() {
        for text in ["", " One. ", "He said *** START OF THE PROJECT GUTENBERG EBOOK ***", "*** END OF THE STORY ***"] {
            assert_eq!(strip(&[text]), text);
        }
        // In a later piece the marker is a quotation, or too far from the start to be a header.
        let mark = "\n*** START OF THE PROJECT GUTENBERG EBOOK ***\n";
        assert_eq!(strip(&["One.", mark, "Two."]), format!("One.{mark}Two."));
    }
}
