//! Removes Project Gutenberg's header and licence from its books.
//!
//! The marks have changed since 1991. The header ends with a line such as `*** START OF THE PROJECT GUTENBERG EBOOK TITLE
//! ***`, with or without the spaces, in any case, with EBOOK or ETEXT, and with a title that may continue on the next
//! lines; in older files with the end of the small print, `*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*…*END*`. The
//! licence begins with `*** END OF …`, with a line such as `End of Project Gutenberg's Title, by Author`, or with the
//! start of the small print.

use std::sync::LazyLock;

use regex::Regex;

/// Bytes at the start of a document in which the end of the small print is searched for; later it is in the licence.
const SMALL_PRINT_BYTES: usize = 64 << 10;

/// Bytes in which the closing asterisks of a start mark are searched for: a title over several lines.
const TITLE_BYTES: usize = 600;

/// The line that ends the header.
static START: LazyLock<Regex> = LazyLock::new(|| {
    expression(r"^[ \t]*\*{3}[ \t]*START OF (?:THE |THIS )?(?:COPYRIGHTED )?PROJECT GUTENBERG E-?(?:BOOK|TEXT)[^\r\n]*")
});

/// The line that ends the small print of older files.
static SMALL_PRINT_END: LazyLock<Regex> =
    LazyLock::new(|| expression(r"^[ \t]*\*END[ \t]*\*?[ \t]*THE SMALL PRINT[^\r\n]*"));

/// The line that begins the licence.
static END: LazyLock<Regex> = LazyLock::new(|| {
    expression(
        r"^[ \t]*(?:\*{3}[ \t]*END OF (?:THE |THIS )?(?:COPYRIGHTED )?PROJECT GUTENBERG E-?(?:BOOK|TEXT)|END OF (?:THE |THIS )?PROJECT GUTENBERG(?:'S|\u{2019}S)?[ ,]|\*{3}[ \t]*START[ \t]*\*{1,3}[ \t]*THE SMALL PRINT)",
    )
});

fn expression(line: &str) -> Regex {
    Regex::new(&format!("(?im){line}")).expect("gutenberg: the pattern is a valid expression")
}

/// Strips header and licence from one document, piece by piece.
///
/// The header is searched for in the first piece (1 MiB), the licence in all pieces. A document without these lines
/// is left unchanged; white space next to them is removed with them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stripper {
    begun: bool,
    ended: bool,
    has_header: bool,
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
            if let Some(at) = end_of_header(piece) {
                piece = &piece[at..];
                self.has_header = true;
                self.at_start = true;
            }
        }
        if self.at_start {
            piece = piece.trim_start();
            self.at_start = piece.is_empty();
        }
        if let Some(found) = END.find(piece) {
            piece = piece[..found.start()].trim_end();
            self.ended = true;
        }
        piece
    }

    /// Whether a mark was found in the pieces so far.
    pub(crate) fn has_found_mark(&self) -> bool {
        self.has_header || self.ended
    }
}

/// The start of the line after the header, if there is a header.
fn end_of_header(piece: &str) -> Option<usize> {
    let end = match START.find(piece) {
        Some(start) => end_of_title(piece, start.range()),
        None => {
            let mut n_bytes = piece.len().min(SMALL_PRINT_BYTES);
            while !piece.is_char_boundary(n_bytes) {
                n_bytes -= 1;
            }
            let found = SMALL_PRINT_END.find(&piece[..n_bytes])?;
            // In the second half of a short text, or past the end mark, it belongs to the licence.
            if 2 * found.start() > piece.len() {
                return None;
            }
            if END.find(piece).is_some_and(|end| end.start() < found.start() && !piece[end.range()].contains("START")) {
                return None;
            }
            found.end()
        }
    };
    Some(piece[end..].find('\n').map_or(piece.len(), |n| end + n + 1))
}

/// The end of a start mark: its closing asterisks, on the same line or after a title that goes on.
fn end_of_title(piece: &str, mark: std::ops::Range<usize>) -> usize {
    let line = piece[mark.clone()].trim_end();
    if line.len() > "***".len() && line.ends_with("***") {
        return mark.end;
    }
    let rest = &piece.as_bytes()[mark.end..piece.len().min(mark.end + TITLE_BYTES)];
    // A title ends at a blank line at the latest.
    let blank = ["\n\n", "\n\r\n"].iter().filter_map(|blank| memchr::memmem::find(rest, blank.as_bytes())).min();
    let closing = memchr::memmem::find(&rest[..blank.unwrap_or(rest.len())], b"***");
    closing.map_or(mark.end, |at| mark.end + at + "***".len())
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
    fn historical_markers_are_found() {
        let starts = [
            "***START OF THE PROJECT GUTENBERG EBOOK PENS***",
            "*** START OF THE PROJECT GUTENBERG EBOOK PENS, OR THE\r\nLONG HISTORY OF\nREEDS ***",
            "*** Start of this Project Gutenberg Etext Pens ***",
            "*** START OF THE PROJECT GUTENBERG E-TEXT PENS ***",
            "*** START OF PROJECT GUTENBERG ETEXT PENS ***",
            "*** START OF THE COPYRIGHTED PROJECT GUTENBERG EBOOK, PENS ***",
            "***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN ETEXTS**START***\nlaw\n*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*",
            "law\n*END THE SMALL PRINT! FOR PUBLIC DOMAIN EBOOKS*Ver.02/11/02*END*",
        ];
        let ends = [
            "***END OF THE PROJECT GUTENBERG EBOOK PENS***",
            "*** END OF THE PROJECT GUTENBERG EBOOK PENS, OR THE\nLONG HISTORY ***",
            "*** End of this Project Gutenberg Etext Pens ***",
            "End of Project Gutenberg's Pens, by A. Reed",
            "End of the Project Gutenberg EBook of Pens, by A. Reed",
            "END OF THE PROJECT GUTENBERG ETEXT OF PENS",
            "End of The Project Gutenberg Etext of Pens",
            "***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN EBOOKS**START***",
        ];
        for start in starts {
            for end in ends {
                let book =
                    format!("Title\nLICENCE\n{start}\n\n\nOne.\n\nTwo.\n\n{end}\n\nLICENCE\n*END*THE SMALL PRINT!\n");
                assert_eq!(strip(&[&book]), "One.\n\nTwo.", "{start} {end}");
            }
        }
    }

    #[test]
    fn other_texts_are_unchanged() {
        for text in [
            "",
            " One. ",
            "He said *** START OF THE PROJECT GUTENBERG EBOOK ***",
            "*** END OF THE STORY ***",
            "He read to the end of Project Gutenberg's book.",
            "THE SMALL PRINT",
        ] {
            assert_eq!(strip(&[text]), text);
            let mut stripper = Stripper::default();
            stripper.strip(text);
            assert!(!stripper.has_found_mark());
        }
        // In a later piece the marker is a quotation, or too far from the start to be a header.
        let mark = "\n*** START OF THE PROJECT GUTENBERG EBOOK ***\n";
        assert_eq!(strip(&["One.", mark, "Two."]), format!("One.{mark}Two."));
    }

    /// A start mark whose title never closes ends with its line.
    #[test]
    fn an_open_title_does_not_take_the_text() {
        let book = "*** START OF THE PROJECT GUTENBERG EBOOK PENS\n\nOne.\n\n*** \n\nTwo.";
        assert_eq!(strip(&[book]), "One.\n\n*** \n\nTwo.");
    }
}
