//! A training checkpoint: weights, both moments, and where the training stands.
//!
//! A folder `checkpoints/step-000040` of `weights.safetensors`, `m.safetensors`, `v.safetensors` under the parameters' own
//! names and shapes, `state.json`, and the run's `config.toml` as it was. Random streams are functions of seed and step, so
//! the step is their state; a run that follows a PyTorch script keeps its generator's.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};

use super::tensor_file::{self, Entry, TensorFile};
use super::{CheckpointError, atomic};
use crate::model::Gpt;
use crate::rng::torch::Script;

const STATE: &str = "state.json";
const CONFIG: &str = "config.toml";
const FILES: [&str; 3] = ["weights.safetensors", "m.safetensors", "v.safetensors"];
const STEP_KEY: &str = "calame.n_steps";

/// Where a training stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Optimizer steps done.
    pub n_steps: u64,
    /// The epoch under way, from 0.
    pub epoch: u64,
    /// Batches of it that are done.
    pub batch: usize,
    /// Tokens trained on.
    pub n_tokens_seen: u64,
    /// Whether what follows the last step (evaluation, sample) is done.
    pub settled: bool,
    /// What a run that follows a PyTorch script has drawn; none where random numbers are functions of seed and step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torch: Option<Script>,
}

/// Writes a checkpoint, with the run's settings (TOML) beside the tensors, into a run's folder and removes those before it; returns its folder.
///
/// # Errors
/// What the system says, with the file's name; the checkpoints before it are untouched then.
pub fn save_training(
    checkpoints: &Path,
    weights: &Gpt,
    m: &Gpt,
    v: &Gpt,
    progress: &Progress,
    config: &str,
) -> Result<PathBuf, CheckpointError> {
    fs::create_dir_all(checkpoints).map_err(CheckpointError::io("create", checkpoints))?;
    let folder = checkpoints.join(format!("step-{:06}", progress.n_steps));
    let step = progress.n_steps.to_string();
    atomic::replace_folder(&folder, |folder| {
        for (file, tree) in FILES.iter().zip([weights, m, v]) {
            let entries = tree
                .tensors()
                .filter(|(_, t)| !t.is_empty())
                .map(|(name, tensor)| (name.to_string(), Entry::of(tensor, false)));
            tensor_file::write(&folder.join(file), entries, &[(STEP_KEY, &step)])?;
        }
        let state = serde_json::to_string_pretty(progress).map_err(|source| CheckpointError::Json {
            path: folder.join(STATE),
            what: "state",
            source,
        })?;
        atomic::write(&folder.join(CONFIG), config)?;
        atomic::write(&folder.join(STATE), &state)
    })?;
    let old = list(checkpoints, "step-", "")?.into_iter().filter(|(_, path)| *path != folder);
    // A program that is killed while it writes leaves a folder under a name that no later step has.
    let partial = list(checkpoints, ".step-", ".partial")?;
    for (_, path) in old.chain(partial) {
        fs::remove_dir_all(&path).map_err(CheckpointError::io("remove", &path))?;
    }
    Ok(folder)
}

/// The newest checkpoint of a run's folder `checkpoints`; None where there is none.
///
/// # Errors
/// If the folder cannot be read.
pub fn latest_checkpoint(checkpoints: &Path) -> Result<Option<PathBuf>, CheckpointError> {
    Ok(list(checkpoints, "step-", "")?.into_iter().max().map(|(_, path)| path))
}

/// The folders named by a step between `start` and `end`.
fn list(checkpoints: &Path, start: &str, end: &str) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    let entries = match fs::read_dir(checkpoints) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(CheckpointError::io("read", checkpoints))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(CheckpointError::io("read", checkpoints))?.path();
        let step = path.file_name().and_then(|n| n.to_str()?.strip_prefix(start)?.strip_suffix(end)?.parse().ok());
        found.extend(step.filter(|_| path.is_dir()).map(|step| (step, path)));
    }
    Ok(found)
}

/// Reads a checkpoint into trees of the run's shape.
///
/// # Errors
/// Names the file and what is wrong with it; the trees hold a part of it then.
pub fn load_training(folder: &Path, weights: &mut Gpt, m: &mut Gpt, v: &mut Gpt) -> Result<Progress, CheckpointError> {
    let path = folder.join(STATE);
    let text = fs::read_to_string(&path).map_err(CheckpointError::io("read", &path))?;
    let progress: Progress =
        serde_json::from_str(&text).map_err(|source| CheckpointError::Json { path, what: "training state", source })?;
    for (file, tree) in FILES.iter().zip([weights, m, v]) {
        read_tree(&folder.join(file), tree, progress.n_steps)?;
    }
    Ok(progress)
}

fn read_tree(path: &Path, tree: &mut Gpt, n_steps: u64) -> Result<(), CheckpointError> {
    let mut file = TensorFile::open(path)?;
    if file.metadata(STEP_KEY) != Some(&n_steps.to_string()) {
        let reason = format!("it is of step {:?}, state.json of step {n_steps}", file.metadata(STEP_KEY));
        return Err(CheckpointError::damaged(path, reason));
    }
    let mut problems = Vec::new();
    let mut infos = file.tensors();
    for (name, tensor) in tree.tensors().filter(|(_, t)| !t.is_empty()) {
        match infos.remove(&name.to_string()) {
            None => problems.push(format!("missing: {name} {:?}", tensor.dims())),
            Some(info) if info.shape != tensor.dims() || info.dtype != Dtype::F32 => {
                problems.push(format!(
                    "misshapen: {name} is {:?} {:?}, expected {:?}",
                    info.dtype,
                    info.shape,
                    tensor.dims()
                ));
            }
            Some(_) => {}
        }
    }
    let mut unexpected: Vec<String> = infos.into_keys().map(|name| format!("unexpected: {name}")).collect();
    unexpected.sort();
    problems.extend(unexpected);
    if !problems.is_empty() {
        return Err(CheckpointError::Tensors { path: path.to_owned(), problems });
    }
    for (name, tensor) in tree.tensors_mut().filter(|(_, t)| !t.is_empty()) {
        file.read(&name.to_string(), tensor.as_mut_slice())?;
    }
    Ok(())
}
