//! Properties of a model that its state_dict does not contain, stored in a separate entry that PyTorch ignores.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::formats::CheckpointError;
use crate::model::ModelConfig;
use crate::tokenizer::{TextBounds, Tokenizer};

/// Name of the entry in the archive's folder.
pub(super) const ENTRY: &str = "calame.json";

/// The entry `calame.json` of a PyTorch file: number of heads, dropout, initialisation, tokenizer hash.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::formats) struct Record {
    /// Version of the program that wrote the file.
    version: String,
    pub config: ModelConfig,
    /// Hash of the model's tokenizer, if it has one; see [`Tokenizer::hash`](crate::tokenizer::Tokenizer::hash).
    pub tokenizer_sha256: Option<String>,
    /// The ids with which texts begin and end, if they are not those of the tokenizer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounds: Option<TextBounds>,
}

impl Record {
    pub fn new(config: &ModelConfig, tokenizer: Option<&dyn Tokenizer>, bounds: &TextBounds) -> Record {
        let is_own = *bounds != tokenizer.map(TextBounds::of).unwrap_or_default();
        Record {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config: config.clone(),
            tokenizer_sha256: tokenizer.map(Tokenizer::hash),
            bounds: is_own.then(|| bounds.clone()),
        }
    }

    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers only")
    }

    /// Reads the record of the file at `path` and checks that its shape is valid.
    pub fn read(path: &Path, json: &[u8]) -> Result<Record, CheckpointError> {
        let wrong = |source| CheckpointError::Json { path: path.to_owned(), what: ENTRY, source };
        let record: Record = serde_json::from_slice(json).map_err(wrong)?;
        record.config.validate().map_err(CheckpointError::impossible_shape(path, "the shape in calame.json"))?;
        Ok(record)
    }
}
