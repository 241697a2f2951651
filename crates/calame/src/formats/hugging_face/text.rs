//! Reading what a folder has for texts: the tokenizer, and the ids with which texts begin and end.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::layout::{ADDED_TOKENS, GENERATION, MERGES, SPECIAL_TOKENS, TOKENIZER, TOKENIZER_CONFIG, VOCAB};
use crate::files::read_text_at_most;
use crate::formats::CheckpointError;
use crate::formats::json::read_json;
use crate::formats::opened::Opened;
use crate::tokenizer::{self, Bpe, TextBounds, Tokenizer, VocabularyFiles};

/// Reads a folder's tokenizer and bounds of texts into `opened`; `json` is its config.json. What cannot be read is noted:
/// only texts need it.
pub(in crate::formats) fn read_text_settings(folder: &Path, json: &Value, opened: &mut Opened) {
    let expected = json["calame"]["tokenizer_sha256"].as_str();
    opened.set_tokenizer(read_own_tokenizer(folder, expected));
    if expected.is_none_or(|hash| hash == Bpe::gpt2().hash()) {
        opened.assume_gpt2_tokenizer();
    }
    let path = folder.join(GENERATION);
    let generation = match path.is_file().then(|| read_json::<Value>(&path, GENERATION)) {
        Some(Ok(generation)) => generation,
        Some(Err(error)) => {
            opened.notes.push(format!("{GENERATION} is ignored: {error}"));
            Value::Null
        }
        None => Value::Null,
    };
    opened.bounds = bounds(&generation).or(bounds(json));
}

/// The ids of `bos_token_id` and `eos_token_id`; the second may be a list. Anything but an id counts as missing.
fn bounds(json: &Value) -> TextBounds {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let end = &json["eos_token_id"];
    TextBounds {
        begin: id(&json["bos_token_id"]),
        ends: match end {
            Value::Array(ends) => ends.iter().filter_map(id).collect(),
            end => id(end).into_iter().collect(),
        },
    }
}

/// The tokenizer in a model's folder, which must be the one that config.json names by its hash.
fn read_own_tokenizer(folder: &Path, expected: Option<&str>) -> Result<Option<Arc<dyn Tokenizer>>, CheckpointError> {
    let Some(tokenizer) = load_tokenizer(folder)? else { return Ok(None) };
    let found = tokenizer.hash();
    match expected {
        Some(expected) if found != expected => Err(CheckpointError::ForeignTokenizer {
            path: folder.join(TOKENIZER),
            expected: expected.to_owned(),
            found,
        }),
        _ => Ok(Some(tokenizer)),
    }
}

/// Reads the tokenizer of a folder: tokenizer.json, or vocab.json with merges.txt. `None` if it has neither.
///
/// # Errors
/// If a file cannot be read, or the tokenizer encodes in a way that is not supported.
pub fn load_tokenizer(folder: &Path) -> Result<Option<Arc<dyn Tokenizer>>, CheckpointError> {
    let path = folder.join(TOKENIZER);
    if path.is_file() {
        return read_tokenizer_file(&path).map(Some);
    }
    let (vocab, merges) = (folder.join(VOCAB), folder.join(MERGES));
    if !vocab.is_file() || !merges.is_file() {
        return Ok(None);
    }
    let read = |path: &Path| read_text_at_most(path, tokenizer::MAX_FILE_BYTES);
    let optional = |name: &str| {
        let path = folder.join(name);
        if path.is_file() { read(&path).map(Some) } else { Ok(None) }
    };
    let files = VocabularyFiles {
        vocab: read(&vocab)?,
        merges: read(&merges)?,
        added_tokens: optional(ADDED_TOKENS)?,
        special_tokens_map: optional(SPECIAL_TOKENS)?,
        tokenizer_config: optional(TOKENIZER_CONFIG)?,
    };
    Ok(Some(Bpe::from_vocabulary_files(&files, folder)?))
}

/// Reads a tokenizer.json of any kind.
pub(in crate::formats) fn read_tokenizer_file(path: &Path) -> Result<Arc<dyn Tokenizer>, CheckpointError> {
    Ok(tokenizer::read_json(&read_text_at_most(path, tokenizer::MAX_FILE_BYTES)?, path)?)
}
