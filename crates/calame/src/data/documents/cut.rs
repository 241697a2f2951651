//! Where a long text may be cut without changing its tokens.

/// Maximum size in bytes of the pieces that a long document is cut into: large enough to keep a tokenizing thread
/// busy, small enough that many pieces fit in memory.
pub const PIECE_BYTES: usize = 1 << 20;

/// A position in `text` at or before byte `max` where it may be cut; never 0.
///
/// The position precedes white space and follows something else: no token of our tokenizers crosses such a
/// position, and the tokens after it do not depend on the text before it. A line break is preferred to other white
/// space. If the first `max` bytes contain no such position, the cut is at the last character boundary before
/// `max`.
///
/// # Panics
/// If the text is not longer than `max`, or `max` is below 4, the length of the longest character.
pub(crate) fn cut_position(text: &str, max: usize) -> usize {
    assert!(text.len() > max && max >= 4, "cut_position: {} bytes at {max}", text.len());
    let bytes = text.as_bytes();
    let is_space = |byte: &u8| byte.is_ascii_whitespace();
    let is_line_break = |byte: &u8| *byte == b'\n';
    last_position(text, &bytes[..=max], is_line_break)
        .or_else(|| last_position(text, &bytes[..=max], is_space))
        .unwrap_or_else(|| (1..=max).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(max))
}

/// The start of the last run of white space in `bytes` that contains a wanted byte; `None` if that run begins the
/// text. An earlier run cannot help then: the run reaches back to the first byte.
fn last_position(text: &str, bytes: &[u8], is_wanted: impl Fn(&u8) -> bool) -> Option<usize> {
    let at = bytes.iter().rposition(is_wanted)?;
    let start = text[..at].trim_end().len();
    (start > 0).then_some(start)
}

/// The pieces of a text in memory: those that a reader of the same text as a stream returns.
pub(crate) fn cut_pieces(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let at = if text.len() > PIECE_BYTES { cut_position(text, PIECE_BYTES) } else { text.len() };
        let (piece, rest) = text.split_at(at);
        text = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn pieces(mut text: &str, max: usize) -> Vec<&str> {
        let mut pieces = Vec::new();
        while text.len() > max {
            let (piece, rest) = text.split_at(cut_position(text, max));
            pieces.push(piece);
            text = rest;
        }
        pieces.push(text);
        pieces
    }

    #[test]
    fn texts_are_cut_before_white_space() {
        assert_eq!(pieces("one two three", 8), ["one two", " three"]);
        assert_eq!(pieces("one\ntwo three", 10), ["one", "\ntwo three"]);
        assert_eq!(pieces("one\r\n\r\ntwo three", 11), ["one", "\r\n\r\ntwo", " three"]);
        assert_eq!(pieces("   one two", 8), ["   one", " two"]);
    }

    #[test]
    fn without_a_place_a_character_stays_whole() {
        assert_eq!(pieces("ééééé", 5), ["éé", "éé", "é"]);
        assert_eq!(pieces("         x", 4), ["    ", "    ", " x"]);
    }

    /// Time proportional to the length, whatever the text repeats.
    #[test]
    fn repeated_characters_are_cut_in_linear_time() {
        for unit in [" ", "\n", "a", "^", "\u{3000}", " \n", "a ", "\r\n"] {
            let text = format!("x{}y", unit.repeat((8 << 20) / unit.len()));
            let started = Instant::now();
            let pieces: Vec<&str> = cut_pieces(&text).collect();
            assert!(started.elapsed() < Duration::from_secs(5), "{unit:?}: {:?}", started.elapsed());
            assert!(pieces.iter().all(|piece| piece.len() <= PIECE_BYTES) && pieces.concat() == text, "{unit:?}");
        }
    }
}
