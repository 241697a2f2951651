//! Reads GPT-2's original pair of files: `vocab.json` with the id of each token, `merges.txt` with a merge in each line.
//!
//! The pair does not say which tokens are special. That is in files which transformers writes next to it: by their role in
//! `special_tokens_map.json`, with all settings in `tokenizer_config.json`; `added_tokens.json` has the ids of tokens that
//! were added to the vocabulary. GPT-2's `<|endoftext|>` is special without any of them.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::base::END_OF_TEXT;
use super::bpe_json::{self, Merge};
use super::error::TokenizerError;
use super::json::{AddedToken, File};
use super::vocabulary::Vocabulary;

/// The contents of the files.
#[derive(Clone, Debug, Default)]
pub struct VocabularyFiles {
    /// Contents of `vocab.json`: an object of ids by token, in GPT-2's byte spelling.
    pub vocab: String,
    /// Contents of `merges.txt`: two tokens in each line, after an optional line `#version`.
    pub merges: String,
    /// Contents of `added_tokens.json`, if there is one: an object of ids by token.
    pub added_tokens: Option<String>,
    /// Contents of `special_tokens_map.json`, if there is one: an object of tokens by role.
    pub special_tokens_map: Option<String>,
    /// Contents of `tokenizer_config.json`, if there is one.
    pub tokenizer_config: Option<String>,
}

#[derive(Default, Deserialize)]
struct Config {
    #[serde(default)]
    add_prefix_space: Option<bool>,
    #[serde(default)]
    added_tokens_decoder: HashMap<String, Described>,
}

/// A token with its settings.
#[derive(Deserialize)]
struct Described {
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    special: bool,
}

/// The tokens of a role: a text, a token with its settings, or several of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum OfRole {
    Text(String),
    Token(Described),
    Several(Vec<OfRole>),
    Other(serde::de::IgnoredAny),
}

impl OfRole {
    fn texts<'a>(&'a self, texts: &mut Vec<&'a str>) {
        match self {
            OfRole::Text(text) => texts.push(text),
            OfRole::Token(token) => texts.push(&token.content),
            OfRole::Several(tokens) => tokens.iter().for_each(|token| token.texts(texts)),
            OfRole::Other(_) => {}
        }
    }
}

/// Reads the vocabulary of the files of `folder`, which only names them in errors.
pub(super) fn read(files: &VocabularyFiles, folder: &Path) -> Result<Vocabulary, TokenizerError> {
    let path = folder.join("vocab.json");
    let vocab: HashMap<String, u32> = parse(&files.vocab, &path, "an object of ids by token")?;
    let mut file = File::bare(&path);
    file.added_tokens = added_tokens(files, folder, &vocab)?;
    let lines = files.merges.lines().filter(|line| !line.is_empty() && !line.starts_with("#version"));
    let merges: Vec<Merge> = lines.map(|line| Merge::Joined(line.to_owned())).collect();
    bpe_json::build(&file, vocab, &merges)
}

fn parse<T: DeserializeOwned>(text: &str, path: &Path, what: &'static str) -> Result<T, TokenizerError> {
    serde_json::from_str(text).map_err(|source| TokenizerError::Json { path: path.to_owned(), what, source })
}

/// The tokens that are found in a text before it is cut into pieces.
fn added_tokens(
    files: &VocabularyFiles,
    folder: &Path,
    vocab: &HashMap<String, u32>,
) -> Result<Vec<AddedToken>, TokenizerError> {
    let mut added: HashMap<String, AddedToken> = HashMap::new();
    let mut ids: HashMap<String, u32> = HashMap::new();
    if let Some(text) = &files.added_tokens {
        ids = parse(text, &folder.join("added_tokens.json"), "an object of ids by token")?;
        let tokens = ids.iter().map(|(text, &id)| (text.clone(), AddedToken::new(id, text.clone(), false)));
        added.extend(tokens);
    }
    if let Some(text) = &files.tokenizer_config {
        let path = folder.join("tokenizer_config.json");
        let config: Config = parse(text, &path, "a tokenizer_config.json")?;
        let file = File::bare(&path);
        if config.add_prefix_space == Some(true) {
            return Err(file.unsupported("add_prefix_space", "false", "true"));
        }
        for (id, Described { content, single_word, lstrip, rstrip, special }) in config.added_tokens_decoder {
            let Ok(id) = id.parse() else {
                return Err(file.unsupported("added_tokens_decoder", "ids", super::json::shorten(&id)));
            };
            added.insert(content.clone(), AddedToken { id, content, single_word, lstrip, rstrip, special });
        }
    }
    let mut special = vec![END_OF_TEXT];
    let roles: HashMap<String, OfRole> = match &files.special_tokens_map {
        Some(text) => parse(text, &folder.join("special_tokens_map.json"), "an object of tokens by role")?,
        None => HashMap::new(),
    };
    roles.values().for_each(|tokens| tokens.texts(&mut special));
    for text in special {
        if let Some(&id) = vocab.get(text).or_else(|| ids.get(text)) {
            added.entry(text.to_owned()).or_insert_with(|| AddedToken::new(id, text.to_owned(), true)).special = true;
        }
    }
    Ok(added.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::{Bpe, Special, Tokenizer};

    /// GPT-2's own tokenizer as the pair of files.
    fn gpt2() -> VocabularyFiles {
        let lists = Bpe::gpt2().to_lists();
        let vocab: HashMap<&String, usize> = lists.tokens.iter().zip(0..).collect();
        let merges = format!("#version: 0.2\n{}\n", lists.merges.join("\n"));
        VocabularyFiles { vocab: serde_json::to_string(&vocab).unwrap(), merges, ..VocabularyFiles::default() }
    }

    fn read(files: &VocabularyFiles) -> Result<std::sync::Arc<Bpe>, TokenizerError> {
        Bpe::from_vocabulary_files(files, Path::new("model"))
    }

    #[test]
    fn gpt2s_own_files_are_gpt2() {
        assert_eq!(read(&gpt2()).unwrap().kind(), "gpt2");
        let carriage_returns = VocabularyFiles { merges: gpt2().merges.replace('\n', "\r\n"), ..gpt2() };
        assert_eq!(read(&carriage_returns).unwrap().kind(), "gpt2");
    }

    #[test]
    fn added_tokens_are_special_or_ordinary_text() {
        let files = VocabularyFiles {
            added_tokens: Some(r#"{"<pad>": 50257, "<user>": 50258}"#.to_owned()),
            special_tokens_map: Some(
                r#"{"eos_token": "<|endoftext|>", "pad_token": {"content": "<pad>", "lstrip": false}, "n": 1,
                   "additional_special_tokens": ["<none>"]}"#
                    .to_owned(),
            ),
            tokenizer_config: Some(r#"{"add_prefix_space": false, "model_max_length": 1e30}"#.to_owned()),
            ..gpt2()
        };
        let bpe = read(&files).unwrap();
        assert_eq!((bpe.kind(), bpe.n_vocab()), ("bpe", 50259));
        assert_eq!(bpe.special_texts(), ["<|endoftext|>", "<pad>"]);
        let encode = |special| bpe.encode("a<user>b<pad>", special);
        assert_eq!(encode(Special::Allow).unwrap(), [64, 50258, 65, 50257]);
        assert_eq!(encode(Special::AsText).unwrap()[..3], [64, 50258, 65]);
        assert!(encode(Special::Forbid).unwrap_err().to_string().contains("<pad>"));
        let described = r#"{"added_tokens_decoder": {"50257": {"content": "<pad>", "special": true}}}"#;
        let files = VocabularyFiles { tokenizer_config: Some(described.to_owned()), ..gpt2() };
        assert_eq!(read(&files).unwrap().special_texts(), ["<|endoftext|>", "<pad>"]);
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let refused = |files: VocabularyFiles, file: &str, says: &str| {
            let message = read(&files).unwrap_err().to_string();
            assert!(message.contains(file) && message.contains(says), "{message}");
        };
        let with_config = |config: &str| VocabularyFiles { tokenizer_config: Some(config.to_owned()), ..gpt2() };
        refused(VocabularyFiles { vocab: "[]".to_owned(), ..gpt2() }, "vocab.json", "an object of ids by token");
        refused(VocabularyFiles { vocab: "{}".to_owned(), ..gpt2() }, "vocab.json", "at least one token");
        refused(VocabularyFiles { merges: String::new(), ..gpt2() }, "vocab.json", "merges, at id 256");
        refused(VocabularyFiles { added_tokens: Some("{".to_owned()), ..gpt2() }, "added_tokens.json", "an object");
        refused(
            VocabularyFiles { added_tokens: Some(r#"{"<pad>": 60000}"#.to_owned()), ..gpt2() },
            "vocab.json",
            "60000",
        );
        refused(with_config(r#"{"add_prefix_space": true}"#), "tokenizer_config.json", "add_prefix_space");
        refused(with_config(r#"{"added_tokens_decoder": {"x": {"content": "y"}}}"#), "tokenizer_config.json", "ids");
    }
}
