//! Reading a folder's configuration and tokenizer.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::layout::TOKENIZER;
use crate::files::read_text_at_most;
use crate::formats::CheckpointError;
use crate::formats::json::{MAX_JSON_BYTES, read_json};
use crate::model::ModelConfig;
use crate::tokenizer::{self, Tokenizer};

/// Reads a folder's `config.json` as a JSON object.
pub(in crate::formats) fn read_config(path: &Path) -> Result<Value, CheckpointError> {
    read_json(path, "config.json")
}

/// Reads a tokenizer.json of any kind.
pub(in crate::formats) fn read_tokenizer_file(path: &Path) -> Result<Arc<dyn Tokenizer>, CheckpointError> {
    Ok(tokenizer::read_json(&read_text_at_most(path, MAX_JSON_BYTES)?, path)?)
}

/// The tokenizer in a model's folder, which must be the one that config.json names by its hash.
pub(in crate::formats) fn read_tokenizer(
    folder: &Path,
    json: &Value,
    config: &ModelConfig,
) -> Result<Option<Arc<dyn Tokenizer>>, CheckpointError> {
    let path = folder.join(TOKENIZER);
    if !path.is_file() {
        return Ok(None);
    }
    let tokenizer = read_tokenizer_file(&path)?;
    if let Some(expected) = json["calame"]["tokenizer_sha256"].as_str() {
        let found = tokenizer.hash();
        if found != expected {
            return Err(CheckpointError::ForeignTokenizer { path, expected: expected.to_owned(), found });
        }
    }
    if tokenizer.n_vocab() > config.vocab_size {
        return Err(CheckpointError::Config {
            path,
            key: "the number of tokens",
            found: tokenizer.n_vocab().to_string(),
            expected: format!("at most the model's vocab_size, {}", config.vocab_size),
        });
    }
    Ok(Some(tokenizer))
}
