//! The two word tokenizers of Sebastian Raschka, *Build a Large Language Model (From Scratch)*, chapter 2.
//!
//! A text is split on `([,.:;?_!"()']|--|\s)` and white space is dropped. The vocabulary is the sorted set of words
//! and punctuation marks of one text. V1 rejects other words; V2 adds `<|endoftext|>` and `<|unk|>`. Decoding joins
//! with spaces and removes the white space before `,.?!"()'`.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use regex::Regex;
use serde::Deserialize;
use serde_json::{Value, json};

use super::base::{END_OF_TEXT, Role, Special, Tokenizer, before_special, hash_vocabulary};

use super::error::TokenizerError;
use super::json::{File, shorten, shown};

/// V2's token for words outside the vocabulary.
const UNKNOWN: &str = "<|unk|>";

/// Punctuation marks that are words of their own.
const SIGNS: &str = r#"[,.:;?_!"()']|--"#;

/// White space as defined by Python's `\s` and `str.strip`: Unicode's, and four ASCII separators.
const SPACE: &str = r"[\s\x1c-\x1f]";

static SEPARATOR: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(&format!("{SIGNS}|{SPACE}")).expect("simple: the pattern is a valid expression"));

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// A tokenizer of words and punctuation marks, with the vocabulary of one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimpleTokenizer {
    version: Version,
    /// The word of each id; the last two of V2 are its special tokens.
    words: Vec<String>,
    ids: HashMap<String, u32>,
}

#[derive(Deserialize)]
struct Model {
    vocab: HashMap<String, u32>,
    unk_token: String,
}

impl SimpleTokenizer {
    /// SimpleTokenizerV1: knows the words of `text`; any other word is an error.
    ///
    /// # Errors
    /// [`TokenizerError::NoWords`] if the text is blank.
    pub fn v1(text: &str) -> Result<Self, TokenizerError> {
        let words: BTreeSet<&str> = split(text).map(|(_, word)| word).collect();
        if words.is_empty() {
            return Err(TokenizerError::NoWords);
        }
        let words = words.into_iter().map(str::to_owned).collect();
        Ok(Self::new(Version::V1, words))
    }

    /// SimpleTokenizerV2: the words of `text`, then `<|endoftext|>` and `<|unk|>`, which replaces any other
    /// word. If the text contains these two as words, they are the special tokens.
    ///
    /// # Errors
    /// [`TokenizerError::NoWords`] if the text is blank.
    pub fn v2(text: &str) -> Result<Self, TokenizerError> {
        let mut words = Self::v1(text)?.words;
        words.retain(|word| word != END_OF_TEXT && word != UNKNOWN);
        words.extend([END_OF_TEXT.to_owned(), UNKNOWN.to_owned()]);
        Ok(Self::new(Version::V2, words))
    }

    fn new(version: Version, words: Vec<String>) -> Self {
        let ids = words.iter().cloned().zip(0..).collect();
        Self { version, words, ids }
    }

    /// Reads a file whose model type is WordLevel.
    pub(super) fn from_file(mut file: File) -> Result<Self, TokenizerError> {
        file.check_no_normalizer()?;
        if file.pre_tokenizer != pre_tokenizer() {
            let found = shown(Some(&file.pre_tokenizer));
            let expected = "the split of simple-v1 and simple-v2 (other word tokenizers are not read)";
            return Err(file.unsupported("pre_tokenizer", expected, found));
        }
        if !file.post_processor.is_null() {
            let found = shown(Some(&file.post_processor));
            return Err(file.unsupported("post_processor", "none", found));
        }
        let model: Model = file.take_model()?;
        let version = match model.unk_token.as_str() {
            "" => Version::V1,
            UNKNOWN => Version::V2,
            other => {
                let expected = format!("\"\" (simple-v1) or {UNKNOWN:?} (simple-v2)");
                return Err(file.unsupported("model unk_token", expected, shorten(other)));
            }
        };
        let words = words_by_id(&file, model.vocab)?;
        check_words(&file, version, &words)?;
        let tokenizer = Self::new(version, words);
        tokenizer.check_added_tokens(&file)?;
        Ok(tokenizer)
    }

    /// Checks that the added tokens are the special tokens at the end of the vocabulary.
    fn check_added_tokens(&self, file: &File) -> Result<(), TokenizerError> {
        let found = file.added_tokens.iter();
        let mut found: Vec<(&str, u32)> = found.map(|t| (t.content.as_str(), t.id)).collect();
        found.sort_by_key(|&(_, id)| id);
        let expected: Vec<(&str, u32)> = self.specials().collect();
        if found == expected {
            return Ok(());
        }
        let found = shorten(&format!("{found:?}"));
        Err(file.unsupported("added_tokens", format!("{expected:?}"), found))
    }

    fn n_ordinary(&self) -> usize {
        match self.version {
            Version::V1 => self.words.len(),
            Version::V2 => self.words.len() - 2,
        }
    }

    /// Text and id of each special token.
    fn specials(&self) -> impl Iterator<Item = (&str, u32)> {
        let words = self.words[self.n_ordinary()..].iter();
        words.map(|word| (word.as_str(), self.ids[word]))
    }

    /// The id of a word found at byte `at` of a text.
    fn id(&self, at: usize, word: &str, special: Special) -> Result<u32, TokenizerError> {
        if let Some(&id) = self.ids.get(word) {
            let is_special = id as usize >= self.n_ordinary();
            match special {
                Special::Forbid if is_special => {
                    return Err(TokenizerError::ForbiddenSpecial { token: word.to_owned(), at });
                }
                Special::AsText if is_special => {}
                _ => return Ok(id),
            }
        }
        match self.version {
            Version::V1 => Err(TokenizerError::UnknownWord { word: shorten(word), n_vocab: self.words.len() }),
            Version::V2 => Ok(self.ids[UNKNOWN]),
        }
    }
}

impl Tokenizer for SimpleTokenizer {
    fn kind(&self) -> &'static str {
        match self.version {
            Version::V1 => "simple-v1",
            Version::V2 => "simple-v2",
        }
    }

    fn n_vocab(&self) -> usize {
        self.words.len()
    }

    fn end_of_text(&self) -> Option<u32> {
        self.specials().find(|&(word, _)| word == END_OF_TEXT).map(|(_, id)| id)
    }

    /// A special token is recognised only as a whole word, as in the book: in `end<|endoftext|>` it is part of a word.
    fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>, TokenizerError> {
        split(text).map(|(at, word)| self.id(at, word, special)).collect()
    }

    fn decode_bytes(&self, ids: &[u32]) -> Result<Vec<u8>, TokenizerError> {
        let mut text = String::new();
        for (i, &id) in ids.iter().enumerate() {
            let word =
                self.words.get(id as usize).ok_or(TokenizerError::UnknownId { id, n_vocab: self.words.len() })?;
            let closes = word.starts_with([',', '.', '?', '!', '"', '(', ')', '\'']);
            if i > 0 && !closes {
                text.push(' ');
            }
            text.push_str(word);
        }
        Ok(text.into_bytes())
    }

    /// The start of the word that a cut at `at` would divide; at the start of the text its end.
    fn cut_at(&self, text: &str, at: usize) -> usize {
        let at = before_special(&self.special_texts(), text, at);
        // A word begins after white space, or after a mark between that and `at`.
        let start = text[..at].char_indices().rev().find(|&(_, c)| is_space(c)).map_or(0, |(i, c)| i + c.len_utf8());
        let words = split(&text[start..]).map(|(i, word)| start + i..start + i + word.len());
        let divided = words.take_while(|word| word.start < at).find(|word| word.end > at);
        divided.map_or(at, |word| if word.start == 0 { word.end } else { word.start })
    }

    fn special_texts(&self) -> Vec<&str> {
        self.specials().map(|(text, _)| text).collect()
    }

    /// The model type is WordLevel. Hugging Face's `tokenizers` gives the same ids and text, except if a
    /// special token touches a character that does not split words (as in `-<|endoftext|>`): that is one
    /// unknown word here.
    fn to_json(&self) -> String {
        let added_tokens: Vec<Value> = self
            .specials()
            .map(|(content, id)| {
                json!({"id": id, "content": content, "single_word": true, "lstrip": false, "rstrip": false, "normalized": false, "special": true})
            })
            .collect();
        // With an unknown token that is not in the vocabulary, an unknown word is an error, as in V1.
        let unk_token = match self.version {
            Version::V1 => "",
            Version::V2 => UNKNOWN,
        };
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added_tokens,
            "normalizer": null,
            "pre_tokenizer": pre_tokenizer(),
            "post_processor": null,
            "decoder": decoder(),
            "model": {"type": "WordLevel", "vocab": self.ids, "unk_token": unk_token},
        })
        .to_string()
    }

    fn hash(&self) -> String {
        let n_ordinary = self.n_ordinary();
        let words = self.words.iter().enumerate();
        let role = |id| if id >= n_ordinary { Role::Special } else { Role::Ordinary };
        hash_vocabulary(self.kind(), words.map(|(id, word)| (word.as_bytes(), role(id))))
    }
}

/// The words and punctuation marks of a text, each with its byte offset.
fn split(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut start = 0;
    let end = std::iter::once(text.len()..text.len());
    let separators = SEPARATOR.find_iter(text).map(|found| found.range());
    separators
        .chain(end)
        .flat_map(move |separator| {
            let word = start..separator.start;
            start = separator.end;
            [word, separator]
        })
        .map(|range| (range.start, &text[range]))
        .filter(|(_, word)| !word.chars().all(is_space))
}

/// Whether a character matches [`SPACE`].
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

fn words_by_id(file: &File, vocab: HashMap<String, u32>) -> Result<Vec<String>, TokenizerError> {
    let n_vocab = vocab.len();
    let mut words: Vec<(u32, String)> = vocab.into_iter().map(|(word, id)| (id, word)).collect();
    words.sort_unstable();
    if let Some((_, (id, word))) = (0..).zip(&words).find(|&(place, &(id, _))| place != id) {
        return Err(file.unsupported(
            format!("id of token {:?}", shorten(word)),
            format!("each id from 0 to {} once", n_vocab - 1),
            format!("{id}, twice or after a gap"),
        ));
    }
    Ok(words.into_iter().map(|(_, word)| word).collect())
}

/// Checks that [`split`] can produce each token, and that V2's vocabulary ends in its special tokens.
fn check_words(file: &File, version: Version, words: &[String]) -> Result<(), TokenizerError> {
    if words.is_empty() {
        return Err(file.unsupported("model vocab", "at least one word", "none"));
    }
    if let Some(word) = words.iter().find(|word| !split(word).eq([(0, word.as_str())])) {
        let field = format!("token {:?}", shorten(word));
        return Err(file.unsupported(field, "one word or one sign", "another text"));
    }
    if version == Version::V2 && !words.ends_with(&[END_OF_TEXT.to_owned(), UNKNOWN.to_owned()]) {
        let expected = format!("{END_OF_TEXT:?} and {UNKNOWN:?} as the last two tokens");
        let found = words.last().map_or_else(String::new, |word| shorten(word));
        return Err(file.unsupported("model vocab", expected, format!("{found:?} as the last")));
    }
    Ok(())
}

/// [`split`] in the format of Hugging Face's pre-tokenizers.
fn pre_tokenizer() -> Value {
    let split = |pattern, behavior| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": false});
    json!({"type": "Sequence", "pretokenizers": [split(SPACE, "Removed"), split(SIGNS, "Isolated")]})
}

/// Decoding in the format of Hugging Face's decoders, where each step sees one token at a time until they are
/// fused: a space before every token, none before closing punctuation, and none at the start.
fn decoder() -> Value {
    let replace = |pattern, content| json!({"type": "Replace", "pattern": {"Regex": pattern}, "content": content});
    json!({"type": "Sequence", "decoders": [
        replace(r"\A(?=.)", " "),
        replace(r#"\A (?=[,.?!"()'])"#, ""),
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]})
}
