//! Splits a text of one or several documents into a training part and a validation part.
//!
//! A single document is split after its first characters, as in the report. Several documents each give their end, so
//! that the validation part is drawn from all of them and not from the last file by name. An end of a few words would
//! say little about the model, so short documents are grouped: consecutive documents form a group of at least
//! 20,000 characters, or a tenth of the text if that is less, and each group gives its end. The rule needs no random
//! numbers, and every part keeps the order of the text.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::files::{Sha256, sha256_hex};

/// Characters of a group of short documents: a tenth of them is about two windows of 256 tokens.
const GROUP_CHARACTERS: usize = 20_000;
/// Number of groups that a text of many short documents has at least.
const LEAST_GROUPS: usize = 10;

/// Which part of a text of several documents is for validation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ValidationPart {
    /// The end of every document; short documents are grouped.
    #[default]
    Documents,
    /// The end of the whole text, however many documents it has.
    End,
}

impl ValidationPart {
    /// The rule of runs from before this setting existed, which they must keep when they are resumed.
    pub(super) fn before_it_existed() -> ValidationPart {
        ValidationPart::End
    }
}

/// The pieces of a training part and of a validation part, as byte ranges of a text, each in the order of the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextParts {
    /// What is trained on.
    pub train: Vec<Range<usize>>,
    /// What is never trained on.
    pub validation: Vec<Range<usize>>,
}

/// Splits `text`, whose documents start at the bytes `starts` in ascending order (the first at 0). `cut` returns where
/// the validation part of a piece of the text begins, in bytes from the start of the piece. Together both parts are the
/// whole text.
///
/// # Panics
/// If a start is not the start of a character.
pub fn split_documents(text: &str, starts: &[usize], rule: ValidationPart, cut: impl Fn(&str) -> usize) -> TextParts {
    let mut parts = TextParts::default();
    for group in groups(text, starts, rule) {
        let at = group.start + cut(&text[group.clone()]);
        parts.train.push(group.start..at);
        parts.validation.push(at..group.end);
    }
    parts
}

/// The hash by which a resumed run detects that its text has changed: of the text and, if validation is drawn from
/// several groups of documents, of where they begin, so that the same text in other files is detected too.
///
/// # Panics
/// As [`split_documents`].
pub fn text_sha256(text: &str, starts: &[usize], rule: ValidationPart) -> String {
    match &groups(text, starts, rule)[..] {
        [_] => sha256_hex(text.as_bytes()),
        groups => {
            let starts: Vec<String> = groups.iter().map(|group| group.start.to_string()).collect();
            let mut sha256 = Sha256::new();
            for bytes in [text.as_bytes(), &[0xff], starts.join(" ").as_bytes()] {
                sha256.update(bytes);
            }
            sha256.finish()
        }
    }
}

/// The bytes of each group of consecutive documents, at least one. A last group that is too short belongs to the one
/// before it.
fn groups(text: &str, starts: &[usize], rule: ValidationPart) -> Vec<Range<usize>> {
    let whole = 0..text.len();
    if starts.len() < 2 || rule == ValidationPart::End {
        return vec![whole];
    }
    let least = GROUP_CHARACTERS.min(text.chars().count() / LEAST_GROUPS).max(1);
    let ends = starts[1..].iter().copied().chain([text.len()]);
    let (mut groups, mut start, mut n_characters, mut from): (Vec<Range<usize>>, _, _, _) = (Vec::new(), 0, 0, 0);
    for end in ends {
        n_characters += text[from..end].chars().count();
        from = end;
        if n_characters >= least {
            groups.push(start..end);
            (start, n_characters) = (end, 0);
        }
    }
    match groups.last_mut() {
        Some(last) => last.end = text.len(),
        None => groups.push(whole),
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::split_by_characters;

    /// Joins documents as a corpus does; returns the text and the starts.
    fn joined(documents: &[String]) -> (String, Vec<usize>) {
        let (mut text, mut starts) = (String::new(), Vec::new());
        for document in documents {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            starts.push(text.len());
            text.push_str(document);
        }
        (text, starts)
    }

    fn tenth(piece: &str) -> usize {
        split_by_characters(piece, 0.9).0.len()
    }

    /// The texts of both parts.
    fn split(documents: &[String]) -> (String, String) {
        let (text, starts) = joined(documents);
        let parts = split_documents(&text, &starts, ValidationPart::Documents, tenth);
        let of = |pieces: &[Range<usize>]| pieces.iter().map(|piece| &text[piece.clone()]).collect::<String>();
        (of(&parts.train), of(&parts.validation))
    }

    #[test]
    fn a_single_text_keeps_the_split_of_the_report() {
        let text = "é".repeat(1234);
        let at = split_by_characters(&text, 0.9).0.len();
        for rule in [ValidationPart::Documents, ValidationPart::End] {
            let parts = split_documents(&text, &[0], rule, tenth);
            let expected = [0..at, at..text.len()];
            assert_eq!([parts.train, parts.validation].concat(), expected);
        }
    }

    #[test]
    fn runs_from_before_the_setting_keep_the_end_of_the_whole_text() {
        let (text, starts) = joined(&["a".repeat(1000), "b".repeat(1000)]);
        let parts = split_documents(&text, &starts, ValidationPart::before_it_existed(), tenth);
        assert_eq!(parts.validation, vec![tenth(&text)..text.len()]);
        assert!(!text[parts.validation[0].clone()].contains('a'));
    }

    #[test]
    fn every_long_document_gives_its_end() {
        let documents = ["a", "b", "c"].map(|letter| letter.repeat(30_000));
        let (train, validation) = split(&documents);
        for letter in ['a', 'b', 'c'] {
            let count = |text: &str| text.chars().filter(|c| *c == letter).count();
            assert!(count(&train).abs_diff(27_000) <= 1 && count(&validation).abs_diff(3000) <= 1, "{letter}");
        }
        assert!(validation.starts_with('a') && validation.ends_with('c'), "in the order of the text");
    }

    #[test]
    fn a_few_short_notes_give_their_ends_too() {
        let (train, validation) = split(&["a", "b", "c", "d"].map(|letter| letter.repeat(500)));
        assert!("abcd".chars().all(|letter| train.contains(letter) && validation.contains(letter)));
    }

    /// 10,000 documents of 200 characters are grouped, so that validation does not consist of ends of 20 characters.
    #[test]
    fn many_short_documents_are_grouped() {
        let documents: Vec<String> = (0..10_000).map(|i| format!("{i:0200}")).collect();
        let (text, starts) = joined(&documents);
        let groups = groups(&text, &starts, ValidationPart::Documents);
        assert_eq!(groups.len(), 100);
        assert!(groups.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!((groups[0].start, groups[99].end), (0, text.len()));
        let (train, validation) = split(&documents);
        let share = validation.len() as f64 / text.len() as f64;
        assert!((share - 0.1).abs() < 0.001, "{share}");
        // From the beginning, the middle and the end of the text.
        let whole = |part: &str| part.lines().filter(|line| line.len() == 200).count();
        assert!(whole(&validation) > 800, "{} whole documents", whole(&validation));
        let numbers: Vec<usize> = validation.lines().filter_map(|line| line.parse().ok()).collect();
        assert!(numbers.first().unwrap() < &200 && numbers.last().unwrap() > &9900);
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(whole(&train) > 8800);
    }

    #[test]
    fn both_parts_together_are_the_text() {
        for lengths in [&[1usize][..], &[1, 1], &[0, 5, 0], &[3, 1, 100, 2], &[50_000, 1, 1, 1]] {
            let documents: Vec<String> = lengths.iter().map(|n| "é".repeat(*n)).collect();
            let (text, starts) = joined(&documents);
            let TextParts { train, validation } = split_documents(&text, &starts, ValidationPart::Documents, tenth);
            let pieces: Vec<Range<usize>> = train.into_iter().zip(validation).flat_map(|(a, b)| [a, b]).collect();
            assert!(pieces.windows(2).all(|pair| pair[0].end == pair[1].start), "{lengths:?}");
            assert_eq!((pieces[0].start, pieces.last().unwrap().end), (0, text.len()), "{lengths:?}");
        }
    }

    #[test]
    fn the_same_text_in_other_files_has_another_hash() {
        let (text, starts) = joined(&["a".repeat(1000), "b".repeat(1000)]);
        let hash = |starts: &[usize], rule| text_sha256(&text, starts, rule);
        let whole = sha256_hex(text.as_bytes());
        assert_eq!(hash(&[0], ValidationPart::Documents), whole);
        assert_eq!(hash(&starts, ValidationPart::End), whole);
        assert_ne!(hash(&starts, ValidationPart::Documents), whole);
    }
}
