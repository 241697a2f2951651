//! Parts of the `tokenizer.json` format that every kind of tokenizer shares.
//!
//! `version` is not read. `truncation` and `padding` are batch settings that Hugging Face stores with the
//! tokenizer; they are ignored.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::TokenizerError;

/// The format, as messages name it.
const FORMAT: &str = "a tokenizer.json in Hugging Face's format";
/// Maximum number of characters of a file's value that an error message quotes.
const N_SHOWN: usize = 80;

#[derive(Deserialize)]
struct Fields {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    model: Value,
}

/// A token that is recognised in a text before the model runs.
#[derive(Clone, Deserialize)]
pub(super) struct AddedToken {
    pub id: u32,
    pub content: String,
    #[serde(default)]
    pub single_word: bool,
    #[serde(default)]
    pub lstrip: bool,
    #[serde(default)]
    pub rstrip: bool,
    #[serde(default)]
    pub special: bool,
}

impl AddedToken {
    /// A token that is recognised wherever its text occurs.
    pub(super) fn new(id: u32, content: String, special: bool) -> Self {
        Self { id, content, single_word: false, lstrip: false, rstrip: false, special }
    }
}

/// A parsed file, with its path for errors.
pub(super) struct File {
    pub path: PathBuf,
    pub added_tokens: Vec<AddedToken>,
    pub normalizer: Value,
    pub pre_tokenizer: Value,
    pub post_processor: Value,
    pub decoder: Value,
    pub model: Value,
}

impl File {
    pub(super) fn parse(text: &str, path: &Path) -> Result<Self, TokenizerError> {
        let fields: Fields = serde_json::from_str(text).map_err(|source| TokenizerError::Json {
            path: path.to_owned(),
            what: FORMAT,
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            added_tokens: fields.added_tokens,
            normalizer: fields.normalizer,
            pre_tokenizer: fields.pre_tokenizer,
            post_processor: fields.post_processor,
            decoder: fields.decoder,
            model: fields.model,
        })
    }

    /// A file with only a path: for a vocabulary that is part of a file of another format.
    pub(super) fn bare(path: &Path) -> Self {
        let [normalizer, pre_tokenizer, post_processor, decoder, model] = [const { Value::Null }; 5];
        let (path, added_tokens) = (path.to_owned(), Vec::new());
        Self { path, added_tokens, normalizer, pre_tokenizer, post_processor, decoder, model }
    }

    /// The model's type. GPT-2's own file does not name it; a file with merges is then BPE.
    pub(super) fn model_type(&self) -> Option<&str> {
        match self.model.get("type") {
            Some(kind) => kind.as_str(),
            None => self.model.get("merges").map(|_| "BPE"),
        }
    }

    /// Parses the model's fields, moving them out of the file.
    pub(super) fn take_model<T: DeserializeOwned>(&mut self) -> Result<T, TokenizerError> {
        serde_json::from_value(self.model.take()).map_err(|source| TokenizerError::Json {
            path: self.path.clone(),
            what: FORMAT,
            source,
        })
    }

    /// Returns an error if the file has a normalizer.
    pub(super) fn check_no_normalizer(&self) -> Result<(), TokenizerError> {
        if self.normalizer.is_null() {
            return Ok(());
        }
        let found = shown(Some(&self.normalizer));
        Err(self.unsupported("normalizer", "none", found))
    }

    pub(super) fn unsupported(
        &self,
        field: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> TokenizerError {
        TokenizerError::Unsupported {
            path: self.path.clone(),
            field: field.into(),
            expected: expected.into(),
            found: found.into(),
        }
    }
}

/// A value of a file, formatted for an error message.
pub(super) fn shown(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "none".to_owned(),
        Some(value) => shorten(&value.to_string()),
    }
}

/// The beginning of a text that may be long.
pub(super) fn shorten(text: &str) -> String {
    match text.char_indices().nth(N_SHOWN) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
