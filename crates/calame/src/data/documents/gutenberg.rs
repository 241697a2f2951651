//! Project Gutenberg's header and licence, which stand around its books.

/// What stands in the line after which a book begins, and in the one before which it ends.
const START: [&str; 2] = ["*** START OF THE PROJECT GUTENBERG EBOOK", "*** START OF THIS PROJECT GUTENBERG EBOOK"];
const END: [&str; 2] = ["*** END OF THE PROJECT GUTENBERG EBOOK", "*** END OF THIS PROJECT GUTENBERG EBOOK"];

/// Takes header and licence off one document, piece by piece.
///
/// The header is looked for in the first piece (a megabyte), the licence in all. A document without these lines is left as
/// it is; white space beside them goes with them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stripper {
    begun: bool,
    ended: bool,
    /// The header was taken off, and nothing but white space came after it.
    at_start: bool,
}

impl Stripper {
    /// What is left of the document's next piece.
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

/// The start of the first line that begins with one of the marks.
fn line_with(text: &str, marks: &[&str]) -> Option<usize> {
    let is_line = |at: usize| at == 0 || text.as_bytes()[at - 1] == b'\n';
    // Old files have the mark with three stars and no space in places; the common form alone is taken.
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
    fn a_book_is_what_stands_between_the_marks() {
        for article in ["THE", "THIS"] {
            let start = format!("licence\r\n*** START OF {article} PROJECT GUTENBERG EBOOK PENS ***\r\n\r\n");
            let end = format!("\r\n\r\n*** END OF {article} PROJECT GUTENBERG EBOOK PENS ***\r\nmore");
            assert_eq!(strip(&[&format!("{start}One.\r\n\r\nTwo.{end}")]), "One.\r\n\r\nTwo.");
            assert_eq!(strip(&[&start, "\nOne.", "\nTwo.", &end, "\nlaw"]), "One.\nTwo.");
        }
    }

    #[test]
    fn other_texts_are_left_alone() {
        for text in ["", " One. ", "He said *** START OF THE PROJECT GUTENBERG EBOOK ***", "*** END OF THE STORY ***"] {
            assert_eq!(strip(&[text]), text);
        }
        // In a later piece it is a quotation, or too far from the start to be a header.
        let mark = "\n*** START OF THE PROJECT GUTENBERG EBOOK ***\n";
        assert_eq!(strip(&["One.", mark, "Two."]), format!("One.{mark}Two."));
    }
}
