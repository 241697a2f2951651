//! Reads and writes a byte-level BPE as a `tokenizer.json` in Hugging Face's format, and reads the lists of a GGUF
//! file.
//!
//! Both formats list the merges, which a [`Vocabulary`] does not store. The reader checks for every token that the
//! order of the ids gives the same merges; the writer rebuilds the list from that order.

use std::collections::HashMap;
use std::path::Path;

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use super::byte_level::{spell, unspell};
use super::error::TokenizerError;
use super::json::{AddedToken, File, shorten, shown};
use super::lists::BpeLists;
use super::vocabulary::Vocabulary;

/// Maximum length of a token in bytes (GPT-2's longest has 128). The time to rebuild a token's merge grows with the
/// square of its length.
const MAX_TOKEN_BYTES: usize = 1024;

/// Maximum total length in bytes of a file's special tokens, which bounds the memory of the search automaton.
const MAX_SPECIAL_BYTES: usize = 1 << 20;

#[derive(Deserialize)]
struct Model {
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
    #[serde(default)]
    dropout: Option<f32>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
}

/// A merge in either spelling: `"a b"`, or `["a", "b"]` in newer files.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Merge {
    Joined(String),
    Pair(String, String),
}

impl Merge {
    fn parts(&self) -> Option<(&str, &str)> {
        match self {
            Merge::Joined(text) => text.split_once(' '),
            Merge::Pair(left, right) => Some((left, right)),
        }
    }
}

/// Reads the vocabulary of a file whose model type is BPE.
pub(super) fn from_file(mut file: File) -> Result<Vocabulary, TokenizerError> {
    check_steps(&file)?;
    let model: Model = file.take_model()?;
    check_model(&file, &model)?;
    build(&file, model.vocab, &model.merges)
}

/// Builds the vocabulary from lists.
pub(super) fn from_lists(lists: BpeLists, path: &Path) -> Result<Vocabulary, TokenizerError> {
    let BpeLists { tokens, merges, specials, added } = lists;
    let mut file = File::bare(path);
    let found_in_text = specials.into_iter().map(|id| (id, true)).chain(added.into_iter().map(|id| (id, false)));
    for (id, special) in found_in_text {
        let Some(content) = tokens.get(id as usize).cloned() else {
            let expected = format!("an id below {}", tokens.len());
            return Err(file.unsupported("special token", expected, id.to_string()));
        };
        file.added_tokens.push(AddedToken::new(id, content, special));
    }
    let mut vocab = HashMap::with_capacity(tokens.len());
    for (id, token) in (0u32..).zip(tokens) {
        if let Some(first) = vocab.insert(token.clone(), id) {
            let field = format!("token {:?}", shorten(&token));
            return Err(file.unsupported(field, "one id", format!("{first} and {id}")));
        }
    }
    let merges: Vec<Merge> = merges.into_iter().map(Merge::Joined).collect();
    build(&file, vocab, &merges)
}

/// Builds the vocabulary of the tokens and merges, with the added tokens of `file`.
pub(super) fn build(file: &File, vocab: HashMap<String, u32>, merges: &[Merge]) -> Result<Vocabulary, TokenizerError> {
    let vocabulary = vocabulary(file, vocab)?;
    check_merges(file, &vocabulary, merges)?;
    Ok(vocabulary)
}

/// Checks every processing step before and after the model.
fn check_steps(file: &File) -> Result<(), TokenizerError> {
    file.check_no_normalizer()?;
    let step = &file.pre_tokenizer;
    // Hugging Face's reader, too, treats a missing `use_regex` as true; `add_prefix_space` is always present.
    let plain = step["type"] == "ByteLevel"
        && step.get("add_prefix_space") == Some(&Value::Bool(false))
        && step.get("use_regex").is_none_or(|v| *v == Value::Bool(true));
    if !plain {
        return Err(file.unsupported(
            "pre_tokenizer",
            "ByteLevel with GPT-2's pattern and add_prefix_space false",
            shown(Some(step)),
        ));
    }
    if file.decoder["type"] != "ByteLevel" {
        return Err(file.unsupported("decoder", "ByteLevel", shown(Some(&file.decoder))));
    }
    let step = &file.post_processor;
    if !(step.is_null() || step["type"] == "ByteLevel" || adds_nothing(step)) {
        let expected = "none, ByteLevel, or a template that adds no token";
        return Err(file.unsupported("post_processor", expected, shown(Some(step))));
    }
    Ok(())
}

/// Whether a post-processor is a template that leaves the ids of a single text unchanged.
fn adds_nothing(step: &Value) -> bool {
    let single = step["single"].as_array();
    step["type"] == "TemplateProcessing"
        && single.is_some_and(|parts| parts.len() == 1 && parts[0]["Sequence"]["id"] == "A")
}

fn check_model(file: &File, model: &Model) -> Result<(), TokenizerError> {
    if let Some(dropout) = model.dropout.filter(|&p| p != 0.0) {
        return Err(file.unsupported("model dropout", "none", dropout.to_string()));
    }
    let affixes = [
        ("continuing_subword_prefix", &model.continuing_subword_prefix),
        ("end_of_word_suffix", &model.end_of_word_suffix),
    ];
    for (field, value) in affixes {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            return Err(file.unsupported(format!("model {field}"), "none", shorten(value)));
        }
    }
    Ok(())
}

fn vocabulary(file: &File, mut vocab: HashMap<String, u32>) -> Result<Vocabulary, TokenizerError> {
    let found_in_text = added_tokens(file, &mut vocab)?;
    // The table of ids is as long as the file has tokens, so a huge id costs no memory.
    let mut tokens: Vec<Option<Vec<u8>>> = vec![None; vocab.len() + found_in_text.len()];
    let n_vocab = tokens.len();
    if n_vocab == 0 {
        return Err(file.unsupported("vocabulary", "at least one token", "none"));
    }
    let added = found_in_text.iter().map(|token| (&token.content, token.id, true));
    let ordinary = vocab.iter().map(|(text, &id)| (text, id, false));
    for (text, id, is_added) in added.chain(ordinary) {
        let bytes = if is_added { text.clone().into_bytes() } else { token_bytes(file, text)? };
        match tokens.get_mut(id as usize) {
            Some(place @ None) => *place = Some(bytes),
            _ => {
                return Err(file.unsupported(
                    format!("id of token {:?}", shorten(text)),
                    format!("each id from 0 to {} once", n_vocab - 1),
                    format!("{id}, twice or too high"),
                ));
            }
        }
    }
    // There are as many tokens as entries and none was assigned twice, so every entry is set.
    let tokens: Vec<Vec<u8>> = tokens.into_iter().flatten().collect();
    let of_kind = |special| {
        let tokens = found_in_text.iter().filter(move |token| token.special == special);
        tokens.map(|token| (token.content.clone(), token.id)).collect()
    };
    Ok(Vocabulary::new(tokens, of_kind(true)).with_added(of_kind(false)))
}

/// The added tokens, removed from the vocabulary if they are also listed there.
fn added_tokens(file: &File, vocab: &mut HashMap<String, u32>) -> Result<Vec<AddedToken>, TokenizerError> {
    let mut n_bytes = 0;
    let mut added: Vec<AddedToken> = Vec::with_capacity(file.added_tokens.len());
    for token in &file.added_tokens {
        let field = format!("added token {:?}", shorten(&token.content));
        if token.single_word || token.lstrip || token.rstrip {
            return Err(file.unsupported(
                field,
                "neither single_word, lstrip nor rstrip",
                "a token that depends on what surrounds it",
            ));
        }
        n_bytes += token.content.len();
        if token.content.is_empty() || n_bytes > MAX_SPECIAL_BYTES {
            let expected = format!("a text, and at most {MAX_SPECIAL_BYTES} bytes in all such tokens");
            return Err(file.unsupported(field, expected, format!("{n_bytes} bytes so far")));
        }
        if let Some(id) = vocab.remove(&token.content).filter(|&id| id != token.id) {
            let expected = format!("the vocabulary's id, {id}");
            return Err(file.unsupported(field, expected, token.id.to_string()));
        }
        added.push(token.clone());
    }
    added.sort_by(|a, b| a.content.cmp(&b.content));
    if let Some(twice) = added.windows(2).find(|pair| pair[0].content == pair[1].content) {
        let field = format!("added token {:?}", shorten(&twice[0].content));
        return Err(file.unsupported(field, "one id", "several"));
    }
    Ok(added)
}

fn token_bytes(file: &File, text: &str) -> Result<Vec<u8>, TokenizerError> {
    let bytes = unspell(text).map_err(|c| {
        file.unsupported(
            format!("token {:?}", shorten(text)),
            "GPT-2's spelling of bytes",
            format!("the character {c:?}"),
        )
    })?;
    if bytes.is_empty() || bytes.len() > MAX_TOKEN_BYTES {
        return Err(file.unsupported(
            format!("token {:?}", shorten(text)),
            format!("1 to {MAX_TOKEN_BYTES} bytes"),
            bytes.len().to_string(),
        ));
    }
    Ok(bytes)
}

/// Checks that merging by ids equals merging by the file's list.
fn check_merges(file: &File, vocabulary: &Vocabulary, merges: &[Merge]) -> Result<(), TokenizerError> {
    let mut listed = merges.iter();
    for (id, token, cut) in vocabulary.merged_tokens() {
        let Some(cut) = cut else {
            return Err(file.unsupported(
                format!("token {:?} with id {id}", shorten(&spell(token))),
                "two tokens of lower ids that it is merged from",
                "none",
            ));
        };
        let (left, right) = (spell(&token[..cut]), spell(&token[cut..]));
        let found = listed.next();
        if found.and_then(Merge::parts) != Some((&left, &right)) {
            let found = match found {
                None => "the end of the list".to_owned(),
                Some(Merge::Joined(text)) => shorten(text),
                Some(Merge::Pair(left, right)) => shorten(&format!("{left} {right}")),
            };
            return Err(file.unsupported(
                format!("merges, at id {id}"),
                format!("\"{} {}\", in the order of the ids", shorten(&left), shorten(&right)),
                format!("{found:?}"),
            ));
        }
    }
    let n_left = listed.len();
    if n_left > 0 {
        let n_used = merges.len() - n_left;
        let found = merges.len().to_string();
        return Err(file.unsupported("number of merges", n_used.to_string(), found));
    }
    Ok(())
}

/// The whole file, with its fields in Hugging Face's order.
#[derive(Serialize)]
struct Written<'a> {
    version: &'static str,
    truncation: Option<()>,
    padding: Option<()>,
    added_tokens: Vec<Value>,
    normalizer: Option<()>,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
    model: WrittenModel<'a>,
}

#[derive(Serialize)]
struct WrittenModel<'a> {
    r#type: &'static str,
    dropout: Option<f32>,
    unk_token: Option<String>,
    continuing_subword_prefix: &'static str,
    end_of_word_suffix: &'static str,
    fuse_unk: bool,
    byte_fallback: bool,
    vocab: ById<'a>,
    merges: Vec<String>,
}

/// Serializes token to id, in id order.
struct ById<'a>(&'a Vocabulary);

impl Serialize for ById<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.tokens.len()))?;
        for (id, text) in (0u32..).zip(self.0.spelled()) {
            map.serialize_entry(&text, &id)?;
        }
        map.end()
    }
}

/// The tokenizer in the form that Hugging Face's `tokenizers` reads.
pub(super) fn to_json(vocabulary: &Vocabulary) -> String {
    let byte_level = |add_prefix_space, trim_offsets| json!({"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": trim_offsets, "use_regex": true});
    let special = vocabulary.specials.iter().map(|token| (token, true));
    let others = vocabulary.added.iter().map(|token| (token, false));
    let added_tokens = special.chain(others).map(|((content, id), special)| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": special})
    });

    let file = Written {
        version: "1.0",
        truncation: None,
        padding: None,
        added_tokens: added_tokens.collect(),
        normalizer: None,
        pre_tokenizer: byte_level(false, true),
        post_processor: byte_level(true, false),
        decoder: byte_level(true, true),
        model: WrittenModel {
            r#type: "BPE",
            dropout: None,
            unk_token: None,
            continuing_subword_prefix: "",
            end_of_word_suffix: "",
            fuse_unk: false,
            byte_fallback: false,
            vocab: ById(vocabulary),
            merges: vocabulary.merges().collect(),
        },
    };
    serde_json::to_string(&file).expect("to_json: every key is a string")
}
