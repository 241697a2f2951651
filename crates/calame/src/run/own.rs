//! Recognises the files that runs consist of: only a folder with nothing else in it may be replaced.

use std::fs;
use std::io;
use std::path::Path;

use super::plot::FILE_NAMES;
use crate::files::{is_lock_name, is_temporary_name, read_text_at_most};
use crate::formats::is_model_file_name;
use crate::train::is_checkpoint_file_name;

pub(super) const CONFIG: &str = "config.toml";
pub(super) const TOKENIZER: &str = "tokenizer.json";
pub(super) const METRICS: &str = "metrics.jsonl";
pub(super) const SAMPLES: &str = "samples.txt";
pub(super) const CHECKPOINTS: &str = "checkpoints";
pub(super) const TENSORBOARD: &str = "tensorboard";
pub(super) const MODEL: &str = "model";

/// Maximum size of settings in bytes.
const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// Why a folder is not a run and nothing but a run: what it lacks, or a file in it that calame has not written.
pub(super) fn foreign_file(folder: &Path) -> Option<String> {
    if !is_config(&folder.join(CONFIG)) {
        return Some(format!("its {CONFIG} is not that of a run"));
    }
    match find(folder, folder, is_own) {
        Ok(None) => None,
        Ok(Some(name)) => Some(format!("it contains {name}, which is not part of a run")),
        Err(error) => Some(format!("it cannot be read: {error}")),
    }
}

/// Whether a file has the settings that every run records. Those of another version of calame may have other keys.
fn is_config(path: &Path) -> bool {
    let text = read_text_at_most(path, MAX_CONFIG_BYTES).unwrap_or_default();
    let table: toml::Table = text.parse().unwrap_or_default();
    ["version", "preset"].iter().all(|key| table.get(*key).is_some_and(toml::Value::is_str))
        && ["model", "data", "train"].iter().all(|key| table.get(*key).is_some_and(toml::Value::is_table))
}

/// The first file or empty folder below `folder`, by its path from `root`, that is not `own`.
fn find(root: &Path, folder: &Path, own: fn(&[&str], bool) -> bool) -> io::Result<Option<String>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let below = path.strip_prefix(root).expect("it is below the root");
        let shown = below.display().to_string();
        let parts: Option<Vec<&str>> = below.iter().map(|part| part.to_str()).collect();
        let is_folder = entry.file_type()?.is_dir();
        if !parts.is_some_and(|parts| own(&parts, is_folder)) {
            return Ok(Some(shown));
        }
        if is_folder && let Some(found) = find(root, &path, own)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Whether a path in a run is one of those that runs write.
fn is_own(parts: &[&str], is_folder: bool) -> bool {
    let is_state = |name: &str| name.starts_with("step-") || name.starts_with("best-");
    match (parts, is_folder) {
        ([name, ..], _) if is_temporary_name(name) => true,
        ([name], false) => {
            [CONFIG, TOKENIZER, METRICS, SAMPLES].contains(name) || FILE_NAMES.contains(name) || is_lock_name(name)
        }
        ([name], true) => [CHECKPOINTS, TENSORBOARD, MODEL].contains(name),
        ([TENSORBOARD, name], false) => name.starts_with("events.out.tfevents.") && name.ends_with(".calame"),
        ([MODEL, name], false) => is_model_file_name(name),
        ([CHECKPOINTS, name, ..], _) if is_temporary_name(name) => true,
        ([CHECKPOINTS, name], true) => is_state(name),
        ([CHECKPOINTS, state, name], false) => {
            is_state(state) && (is_checkpoint_file_name(name) || is_model_file_name(name))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_runs_are_told_from_others() {
        let own = [
            "config.toml",
            "loss-plot.svg",
            ".config.toml.12-3.partial",
            "tensorboard/events.out.tfevents.1.host.calame",
            "model/config.json",
            "checkpoints/step-000010/state.json",
            "checkpoints/best-000010/model.safetensors",
            "checkpoints/.step-000011.12-3.partial/anything",
        ];
        let others = [
            "notes.txt",
            ".git",
            "model/README.md",
            "model/deep/config.json",
            "tensorboard/notes",
            "checkpoints/step-000010/notes",
            "checkpoints/old/state.json",
            "state.json",
        ];
        let is_own = |path: &&str| is_own(&path.split('/').collect::<Vec<_>>(), false);
        assert!(own.iter().all(is_own) && !others.iter().any(is_own));
    }
}
