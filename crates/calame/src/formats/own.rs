//! Recognises model files that calame has written: only those may be replaced by others.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value;

use super::gguf::is_written_by_calame as is_own_gguf;
use super::json::read_json;
use super::safetensors::TensorFile;
use super::{TorchFile, hugging_face, onnx};
use crate::files::{is_lock_name, is_temporary_name};

/// The files of a model's folder: calame's own, and those that calame and other programs keep beside them.
const FOLDER_FILES: [&str; 11] = [
    hugging_face::CONFIG,
    hugging_face::WEIGHTS,
    hugging_face::TOKENIZER,
    hugging_face::GENERATION,
    hugging_face::TOKENIZER_CONFIG,
    hugging_face::SPECIAL_TOKENS,
    hugging_face::ADDED_TOKENS,
    hugging_face::VOCAB,
    hugging_face::MERGES,
    onnx::GRAPH,
    onnx::DATA,
];

/// Whether a file of this name in a model's folder is one of those that calame writes.
pub fn is_model_file_name(name: &str) -> bool {
    FOLDER_FILES.contains(&name)
}

/// Why the file or folder at `path` is not an exported model of calame; `None` if it is one.
///
/// A folder is recognised by the entry `calame` of its config.json, and contains nothing but the files of a model. A file
/// is recognised by the record that each format has for calame's own properties.
pub fn not_an_export(path: &Path) -> Option<String> {
    if path.is_dir() {
        return foreign_in_folder(path);
    }
    let is_own = is_own_gguf(path) || TorchFile::open(path).is_ok_and(|file| file.record().is_some());
    (!is_own).then(|| "calame has not written it".to_owned())
}

/// Why the file at `path` does not contain logits that calame has written; `None` if it does.
pub fn not_logits(path: &Path) -> Option<String> {
    let is_own = TensorFile::open(path).is_ok_and(|file| file.tensors().into_keys().eq(["logits".to_owned()]));
    (!is_own).then(|| "it does not contain logits alone".to_owned())
}

fn foreign_in_folder(folder: &Path) -> Option<String> {
    let config: Result<Value, _> = read_json(&folder.join(hugging_face::CONFIG), "model configuration");
    if !config.is_ok_and(|config| config["calame"]["version"].is_string()) {
        return Some("it has no config.json that calame has written".to_owned());
    }
    match foreign_name(folder) {
        Ok(name) => name.map(|name| format!("it contains {name}, which is not part of a model")),
        Err(error) => Some(format!("it cannot be read: {error}")),
    }
}

fn foreign_name(folder: &Path) -> io::Result<Option<String>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_own = is_model_file_name(&name) || is_temporary_name(&name) || is_lock_name(&name);
        if !is_own || entry.file_type()?.is_dir() {
            return Ok(Some(name));
        }
    }
    Ok(None)
}
