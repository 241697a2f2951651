//! Stop strings against a direct definition, for all splits of a text into pieces.

use super::*;
use crate::rng::{Key, Sequence};
use crate::tokenizer::{Bpe, Special, StreamDecoder, Tokenizer};

/// Tries every end and every string. The text before the match, and the match.
fn reference<'a>(strings: &[&'a str], text: &str) -> (String, Option<&'a str>) {
    for (end, _) in text.char_indices().skip(1).chain([(text.len(), ' ')]) {
        let met = strings.iter().filter(|string| text[..end].ends_with(**string)).max_by_key(|string| string.len());
        if let Some(string) = met {
            return (text[..end - string.len()].to_owned(), Some(string));
        }
    }
    (text.to_owned(), None)
}

/// Whether a continuation of `text` could meet a string that begins within the last `n` bytes of it, but not earlier.
fn held(strings: &[&str], text: &str) -> usize {
    let starts = text.char_indices().map(|(start, _)| &text[start..]);
    starts.filter(|end| strings.iter().any(|string| string.starts_with(end))).map(str::len).max().unwrap_or(0)
}

/// Pushes the pieces, and checks after each that nothing is shown too early or held too long.
fn check(strings: &[&str], pieces: &[&str]) {
    let text = pieces.concat();
    let (expected, expected_met) = reference(strings, &text);
    let mut matcher = StopStrings::new(strings).unwrap().matcher();
    let (mut shown, mut n_pushed) = (String::new(), 0);
    for piece in pieces {
        shown += &matcher.push(piece);
        n_pushed += piece.len();
        let (now, met) = reference(strings, &text[..n_pushed]);
        assert_eq!(matcher.met(), met, "{strings:?} in {pieces:?}");
        let n_held = if met.is_some() { 0 } else { held(strings, &now) };
        assert_eq!(shown, now[..now.len() - n_held], "{strings:?} in {pieces:?}");
    }
    shown += &matcher.finish();
    assert_eq!((shown.as_str(), matcher.met()), (expected.as_str(), expected_met), "{strings:?} in {pieces:?}");
}

/// All ways to split a text of few characters into pieces.
fn splits(text: &str) -> Vec<Vec<&str>> {
    let bounds: Vec<usize> = text.char_indices().skip(1).map(|(i, _)| i).collect();
    let split = |mask: u32| {
        let (mut pieces, mut start) = (Vec::new(), 0);
        for (bit, &bound) in bounds.iter().enumerate() {
            if mask >> bit & 1 == 1 {
                pieces.push(&text[start..bound]);
                start = bound;
            }
        }
        pieces.push(&text[start..]);
        pieces
    };
    (0..1 << bounds.len()).map(split).collect()
}

#[test]
fn every_split_of_a_text_gives_the_same() {
    let cases: [(&[&str], &str); 12] = [
        (&["stop"], "do not stop now"),
        (&["aab"], "aaaaabaab"),
        (&["abcd", "bc"], "xabcdbc"),
        (&["ab", "abc"], "zabcab"),
        (&["b", "ab", "cab"], "ccabcab"),
        (&["\n\n", "\n###"], "a\n#\n##\n\n"),
        (&["é", "日本"], "cafe日é日本"),
        (&["日本語", "本"], "日日本語"),
        (&["abab", "abac", "bb"], "abaabab"),
        (&["aa", "aa"], "bab aa"),
        (&["never"], "neve nev"),
        (&[], "nothing"),
    ];
    for (strings, text) in cases {
        splits(text).iter().for_each(|pieces| check(strings, pieces));
    }
}

#[test]
fn random_strings_in_random_texts() {
    let mut random = Sequence::new(Key::from_seed(8));
    let mut word = |n: u64| {
        let n = 1 + random.below(n);
        (0..n).map(|_| ['a', 'b', 'ü'][random.below(3) as usize]).collect::<String>()
    };
    for _ in 0..300 {
        let strings: Vec<String> = (0..3).map(|_| word(5)).collect();
        let strings: Vec<&str> = strings.iter().map(String::as_str).collect();
        let text = word(9);
        splits(&text).iter().for_each(|pieces| check(&strings, pieces));
    }
}

#[test]
fn nothing_follows_a_stop_string() {
    let mut matcher = StopStrings::new(&["END"]).unwrap().matcher();
    assert_eq!(matcher.push("a EN"), "a ");
    assert_eq!(matcher.push(""), "");
    assert_eq!(matcher.push("D of"), "");
    assert_eq!(matcher.met(), Some("END"));
    assert_eq!(matcher.push(" the text"), "");
    assert_eq!((matcher.finish().as_str(), matcher.met()), ("", Some("END")));
}

#[test]
fn lengths_out_of_range_are_named() {
    let error = |strings: &[&str]| StopStrings::new(strings).unwrap_err().to_string();
    assert_eq!(error(&["a", ""]), "stop string 2 has 0 bytes: expected 1 to 4096");
    let long = "x".repeat(4097);
    assert_eq!(error(&[&long]), "stop string 1 has 4097 bytes: expected 1 to 4096");
    check(&[&long[1..]], &[&long[2..], "y", &long, "y"]);
}

#[test]
fn a_long_text_takes_linear_time() {
    // A matcher that compares the held text again with every piece would need 4 billion comparisons.
    let stop = "a".repeat(4095) + "b";
    let mut matcher = StopStrings::new(&[&stop, "ac"]).unwrap().matcher();
    let n_shown: usize = (0..1_000_000).map(|_| matcher.push("a").len()).sum();
    assert_eq!(n_shown, 1_000_000 - 4095);
    assert_eq!((matcher.push("b").as_str(), matcher.met()), ("", Some(stop.as_str())));
}

#[test]
fn pieces_of_a_decoder_are_searched_across_tokens() {
    let bpe = Bpe::gpt2();
    let text = "naïve 🦀🦀 – 日本語 and more";
    let ids = bpe.encode(text, Special::Forbid).unwrap();
    for (stop, before) in [("🦀 –", "naïve 🦀"), ("本語 a", "naïve 🦀🦀 – 日"), ("🦀🦀🦀", text)]
    {
        let (mut decoder, mut matcher) = (StreamDecoder::new(), StopStrings::new(&[stop]).unwrap().matcher());
        let mut shown = String::new();
        for &id in &ids {
            shown += &matcher.push(&decoder.push(&*bpe, id).unwrap());
        }
        shown += &matcher.push(&decoder.finish());
        shown += &matcher.finish();
        assert_eq!((shown.as_str(), matcher.met()), (before, (before != text).then_some(stop)));
    }
}
