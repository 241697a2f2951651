//! Reads a model's JSON files.

use std::path::Path;

use serde::de::DeserializeOwned;

use super::CheckpointError;
use crate::files::read_text_at_most;

/// Maximum size of a configuration or another JSON file in bytes.
const MAX_JSON_BYTES: u64 = 256 << 20;

/// Reads a JSON file; `what` names its expected contents in errors.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, what: &'static str) -> Result<T, CheckpointError> {
    let text = read_text_at_most(path, MAX_JSON_BYTES)?;
    serde_json::from_str(&text).map_err(|source| CheckpointError::Json { path: path.to_owned(), what, source })
}
