//! The byte-level BPE as a `tokenizer.json` of Hugging Face's format, and as the lists of a GGUF file.
//!
//! Both list the merges; here they are not stored, since the ids have their order. Merging by ids gives what
//! merging by a list gives if and only if, for each merged token, merging its bytes with lower ids alone ends
//! in exactly the two parts that the list has: inside the span that becomes a token, merging proceeds as if the
//! span stood alone. The reader checks this for every token, the writer rebuilds the list by it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use super::byte_level::{spell, unspell};
use super::gpt2::{ranks, special_ids};
use super::json::{AddedToken, File, shorten, shown};
use super::{Bpe, BpeLists, TokenizerError};

/// Bytes of the longest token that a file may have (GPT-2's longest has 128): rebuilding its merge takes the
/// square of its length.
const MAX_TOKEN_BYTES: usize = 1024;

/// Bytes of all special tokens of a file together.
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

/// A merge in one of its two spellings: `"a b"`, or `["a", "b"]` in newer files.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
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

/// Reads a file whose model is BPE; GPT-2's shared instance where the file is GPT-2's tokenizer.
pub(super) fn from_file(mut file: File) -> Result<Arc<Bpe>, TokenizerError> {
    check_steps(&file)?;
    let model: Model = file.take_model()?;
    check_model(&file, &model)?;
    build(&file, model.vocab, &model.merges)
}

/// Makes the tokenizer of lists; GPT-2's shared instance where they are GPT-2's.
pub(super) fn from_lists(lists: BpeLists, path: &Path) -> Result<Arc<Bpe>, TokenizerError> {
    let BpeLists { tokens, merges, specials } = lists;
    let mut file = File::bare(path);
    for id in specials {
        let Some(content) = tokens.get(id as usize).cloned() else {
            let expected = format!("an id below {}", tokens.len());
            return Err(file.unsupported("special token", expected, id.to_string()));
        };
        file.added_tokens.push(AddedToken::special(id, content));
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

fn build(file: &File, vocab: HashMap<String, u32>, merges: &[Merge]) -> Result<Arc<Bpe>, TokenizerError> {
    let (tokens, specials) = vocabulary(file, vocab)?;
    check_merges(file, &tokens, &specials, merges)?;
    let gpt2 = Bpe::gpt2();
    if gpt2.tokens() == tokens && gpt2.specials() == specials {
        return Ok(gpt2);
    }
    Ok(Arc::new(Bpe::new("bpe", tokens, specials)))
}

/// Checks all that happens to a text before and after the model.
fn check_steps(file: &File) -> Result<(), TokenizerError> {
    file.check_no_normalizer()?;
    let step = &file.pre_tokenizer;
    // In Hugging Face's reader, too, a missing `use_regex` is true; `add_prefix_space` is never missing.
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

/// Whether a post-processor is a template that leaves a single text's ids as they are.
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

/// The bytes of each id, and the special tokens.
type Vocabulary = (Vec<Vec<u8>>, Vec<(String, u32)>);

fn vocabulary(file: &File, mut vocab: HashMap<String, u32>) -> Result<Vocabulary, TokenizerError> {
    let specials = specials(file, &mut vocab)?;
    // Ids are placed in a table no longer than the file has tokens, so a huge id costs nothing.
    let mut tokens: Vec<Option<Vec<u8>>> = vec![None; vocab.len() + specials.len()];
    let n_vocab = tokens.len();
    let special = specials.iter().map(|(text, id)| (text, *id, true));
    let ordinary = vocab.iter().map(|(text, &id)| (text, id, false));
    for (text, id, is_special) in special.chain(ordinary) {
        let bytes = if is_special { text.clone().into_bytes() } else { token_bytes(file, text)? };
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
    // As many tokens as places and none placed twice: every place is taken.
    let tokens: Vec<Vec<u8>> = tokens.into_iter().flatten().collect();
    let n_bytes = vocab.keys().filter(|text| text.chars().count() == 1).count();
    if n_bytes != 256 {
        let found = format!("{n_bytes}");
        return Err(file.unsupported("single bytes in the vocabulary", "all 256", found));
    }
    Ok((tokens, specials))
}

/// The special tokens, taken out of the vocabulary where they also stand there.
fn specials(file: &File, vocab: &mut HashMap<String, u32>) -> Result<Vec<(String, u32)>, TokenizerError> {
    let mut n_bytes = 0;
    let mut specials: Vec<(String, u32)> = Vec::with_capacity(file.added_tokens.len());
    for token in &file.added_tokens {
        let field = format!("added token {:?}", shorten(&token.content));
        if !token.special || token.single_word || token.lstrip || token.rstrip {
            return Err(file.unsupported(
                field,
                "special, and neither single_word, lstrip nor rstrip",
                "another kind of added token",
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
        specials.push((token.content.clone(), token.id));
    }
    specials.sort_unstable();
    if let Some(twice) = specials.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let field = format!("added token {:?}", shorten(&twice[0].0));
        return Err(file.unsupported(field, "one id", "several"));
    }
    specials.sort_by_key(|&(_, id)| id);
    Ok(specials)
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

/// Checks that merging by ids is merging by the file's list.
fn check_merges(
    file: &File,
    tokens: &[Vec<u8>],
    specials: &[(String, u32)],
    merges: &[Merge],
) -> Result<(), TokenizerError> {
    let mut listed = merges.iter();
    for (id, token, cut) in merged_tokens(tokens, specials) {
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

/// For each ordinary token of two bytes or more, in the order of the ids: its id, its bytes, and the length of the
/// first of the two parts it is merged from, where there are two.
fn merged_tokens<'a>(
    tokens: &'a [Vec<u8>],
    specials: &[(String, u32)],
) -> impl Iterator<Item = (u32, &'a [u8], Option<usize>)> {
    let ranks = ranks(tokens, specials);
    let special = special_ids(tokens.len(), specials);
    (0..)
        .zip(tokens)
        .zip(special)
        .filter(|&((_, token), special)| !special && token.len() > 1)
        .map(move |((id, token), _)| (id, token.as_slice(), last_cut(&ranks, token, id)))
}

/// Merges the bytes of a token with the ids below its own; the length of the first part where two are left.
pub(super) fn last_cut(ranks: &FxHashMap<Vec<u8>, u32>, token: &[u8], id: u32) -> Option<usize> {
    // The starts of the parts, then the end; beside each the id of its union with the next part, if below `id`.
    let mut starts: Vec<usize> = (0..=token.len()).collect();
    let union = |starts: &[usize], i: usize| {
        let end = *starts.get(i + 2)?;
        ranks.get(&token[starts[i]..end]).copied().filter(|&rank| rank < id)
    };
    let mut unions: Vec<Option<u32>> = (0..starts.len()).map(|i| union(&starts, i)).collect();
    while let Some((_, i)) = unions.iter().zip(0..).filter_map(|(rank, i)| Some(((*rank)?, i))).min() {
        starts.remove(i + 1);
        unions.remove(i + 1);
        unions[i] = union(&starts, i);
        if i > 0 {
            unions[i - 1] = union(&starts, i - 1);
        }
    }
    (starts.len() == 3).then(|| starts[1])
}

/// The whole file, its fields in Hugging Face's order.
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

/// Token to id, in the order of the ids.
struct ById<'a>(&'a Bpe);

impl Serialize for ById<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.tokens().len()))?;
        for (id, text) in (0u32..).zip(spelled(self.0)) {
            map.serialize_entry(&text, &id)?;
        }
        map.end()
    }
}

/// The token of each id as text; that of a special token stands as it is.
fn spelled(bpe: &Bpe) -> impl Iterator<Item = String> {
    let special = special_ids(bpe.tokens().len(), bpe.specials());
    let tokens = bpe.tokens().iter().zip(special);
    tokens.map(|(token, special)| if special { String::from_utf8_lossy(token).into_owned() } else { spell(token) })
}

/// The two parts of each merge, with a space between them.
fn merges(bpe: &Bpe) -> impl Iterator<Item = String> {
    merged_tokens(bpe.tokens(), bpe.specials()).map(|(id, token, cut)| {
        let cut = cut.unwrap_or_else(|| panic!("merges: token {id} is merged from two others"));
        format!("{} {}", spell(&token[..cut]), spell(&token[cut..]))
    })
}

/// The lists that [`from_lists`] reads.
pub(super) fn to_lists(bpe: &Bpe) -> BpeLists {
    let specials = bpe.specials().iter().map(|&(_, id)| id).collect();
    BpeLists { tokens: spelled(bpe).collect(), merges: merges(bpe).collect(), specials }
}

/// The tokenizer as Hugging Face's `tokenizers` reads it.
pub(super) fn to_json(bpe: &Bpe) -> String {
    let byte_level = |add_prefix_space, trim_offsets| json!({"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": trim_offsets, "use_regex": true});
    let added_tokens = bpe.specials().iter().map(|(content, id)| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})
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
            vocab: ById(bpe),
            merges: merges(bpe).collect(),
        },
    };
    serde_json::to_string(&file).expect("to_json: every key is a string")
}
