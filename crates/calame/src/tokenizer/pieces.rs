//! Cuts a text into GPT-2's pieces with a hand-written scanner instead of a regular expression.
//!
//! The pattern is `'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`: the first matching
//! alternative wins, and each is greedy. The character classes come from the crate `regex-syntax`, so they equal
//! those of the expression.
//!
//! With the piece cache the scanner encodes several times faster than the expression and `tiktoken-rs`, which merges
//! the bytes of every piece anew. Tests compare the two on every character.
//!
//! Source: `encoder.py` of openai/gpt-2.

use std::sync::OnceLock;

use regex_syntax::hir::{Class, HirKind};

/// The class of a character in the pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Letter,
    Number,
    Space,
    /// Punctuation, marks and everything else.
    Other,
}

/// A set of characters as a bitmap.
struct CharSet(Vec<u64>);

impl CharSet {
    /// The characters of a class such as `\p{L}`.
    fn of_class(pattern: &str) -> CharSet {
        let mut bits = vec![0u64; (char::MAX as usize + 1).div_ceil(64)];
        let hir = regex_syntax::parse(pattern).expect("pieces: the class is a valid expression");
        if let HirKind::Class(Class::Unicode(class)) = hir.kind() {
            for range in class.ranges() {
                (range.start() as usize..=range.end() as usize).for_each(|c| bits[c / 64] |= 1 << (c % 64));
            }
        }
        CharSet(bits)
    }

    fn contains(&self, c: char) -> bool {
        self.0[c as usize / 64] >> (c as usize % 64) & 1 == 1
    }
}

struct Classes {
    letters: CharSet,
    numbers: CharSet,
}

fn classes() -> &'static Classes {
    static CLASSES: OnceLock<Classes> = OnceLock::new();
    CLASSES.get_or_init(|| Classes { letters: CharSet::of_class(r"\p{L}"), numbers: CharSet::of_class(r"\p{N}") })
}

/// The class of each ASCII character.
const ASCII: [Kind; 128] = ascii();

const fn ascii() -> [Kind; 128] {
    let mut kinds = [Kind::Other; 128];
    let mut byte = 0u8;
    while byte < 128 {
        kinds[byte as usize] = match byte {
            b'a'..=b'z' | b'A'..=b'Z' => Kind::Letter,
            b'0'..=b'9' => Kind::Number,
            b' ' | 0x09..=0x0d => Kind::Space,
            _ => Kind::Other,
        };
        byte += 1;
    }
    kinds
}

/// Cuts a text into pieces; joined in order they are the text.
pub(super) fn pieces(text: &str) -> Pieces<'_> {
    Pieces { rest: text, classes: classes() }
}

/// Iterator over the pieces of a text, returned by [`pieces`].
pub(super) struct Pieces<'a> {
    rest: &'a str,
    classes: &'static Classes,
}

impl<'a> Pieces<'a> {
    /// Class and byte length of the character at `at`, or `None` at the end.
    #[inline]
    fn kind(&self, at: usize) -> Option<(Kind, usize)> {
        let byte = *self.rest.as_bytes().get(at)?;
        if byte < 128 {
            return Some((ASCII[usize::from(byte)], 1));
        }
        let c = self.rest[at..].chars().next()?;
        let kind = if self.classes.letters.contains(c) {
            Kind::Letter
        } else if self.classes.numbers.contains(c) {
            Kind::Number
        } else if c.is_whitespace() {
            Kind::Space
        } else {
            Kind::Other
        };
        Some((kind, c.len_utf8()))
    }

    /// The end of the run of `kind` that starts at `at`, and the start of its last character.
    #[inline]
    fn run(&self, kind: Kind, mut at: usize) -> (usize, usize) {
        let mut last = at;
        while let Some((found, len)) = self.kind(at) {
            if found != kind {
                break;
            }
            last = at;
            at += len;
        }
        (at, last)
    }

    /// Length of the first piece in bytes.
    #[inline]
    fn first(&self) -> usize {
        let bytes = self.rest.as_bytes();
        if bytes[0] == b'\'' {
            match bytes.get(1..) {
                Some([b's' | b'd' | b'm' | b't', ..]) => return 2,
                Some([b'l', b'l', ..] | [b'v' | b'r', b'e', ..]) => return 3,
                _ => {}
            }
        }
        let Some((kind, len)) = self.kind(0) else { return self.rest.len() };
        if kind != Kind::Space {
            return self.run(kind, len).0;
        }
        if bytes[0] == b' '
            && let Some((next, len)) = self.kind(1)
            && next != Kind::Space
        {
            return self.run(next, 1 + len).0;
        }
        // White space: all of it at the end of the text. Otherwise all but the last character, which may
        // belong to the next piece.
        match self.run(Kind::Space, 0) {
            (end, last) if end < self.rest.len() && last > 0 => last,
            (end, _) => end,
        }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    #[inline]
    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let (piece, rest) = self.rest.split_at(self.first());
        self.rest = rest;
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fancy_regex::Regex;
    use proptest::prelude::*;

    const PATTERN: &str = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

    fn by_expression(text: &str) -> Vec<String> {
        let expression = Regex::new(PATTERN).unwrap();
        expression.find_iter(text).map(|found| found.unwrap().as_str().to_owned()).collect()
    }

    #[test]
    fn the_last_white_space_before_a_word_belongs_to_the_word() {
        let cut = |text| pieces(text).collect::<Vec<_>>();
        assert_eq!(cut(""), [""; 0]);
        assert_eq!(cut("a b\nc"), ["a", " b", "\n", "c"]);
        assert_eq!(cut("a  b"), ["a", " ", " b"]);
        assert_eq!(cut("\n\n\u{3000}b  \t"), ["\n\n", "\u{3000}", "b", "  \t"]);
        assert_eq!(cut("  a\r\n b"), [" ", " a", "\r\n", " b"]);
        assert_eq!(cut("it's we'll '' 's"), ["it", "'s", " we", "'ll", " ''", " '", "s"]);
    }

    proptest! {
        #[test]
        fn pieces_are_those_of_the_expression(text in "[ \t\r\n'a-zé٣½\u{a0}\u{3000}\u{301}.,!?0-9slvreдя語🖋]{0,60}") {
            prop_assert_eq!(pieces(&text).collect::<Vec<_>>(), by_expression(&text));
        }

        #[test]
        fn any_text_is_cut_as_by_the_expression(text in any::<String>()) {
            prop_assert_eq!(pieces(&text).collect::<Vec<_>>(), by_expression(&text));
        }
    }

    /// Tests every character, alone and between others.
    #[test]
    fn every_character_has_its_class() {
        let expression = Regex::new(PATTERN).unwrap();
        for c in '\0'..=char::MAX {
            let text = format!("x{c}1{c} {c}");
            let expected: Vec<&str> = expression.find_iter(&text).map(|found| found.unwrap().as_str()).collect();
            assert_eq!(pieces(&text).collect::<Vec<_>>(), expected, "{c:?}");
        }
    }
}
