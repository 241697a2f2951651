//! Reading a folder's configuration.

use std::path::Path;

use serde_json::Value;

use crate::formats::CheckpointError;
use crate::formats::json::read_json;

/// Reads a folder's `config.json` as a JSON object.
pub(in crate::formats) fn read_config(path: &Path) -> Result<Value, CheckpointError> {
    read_json(path, "config.json")
}
