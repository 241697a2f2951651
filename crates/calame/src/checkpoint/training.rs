//! A training checkpoint: weights, both moments, and where the training stands.
//!
//! A folder `checkpoints/step-000040` of `weights.safetensors`, `m.safetensors`, `v.safetensors` under the parameters' own
//! names and shapes, `state.json`, the run's `config.toml` as it was, and `checksums.json` with the size and the CRC-32 of
//! each. Random streams are functions of seed and step, so the step is their state; a run that follows a PyTorch script
//! keeps its generator's. Beside them `checkpoints/best-000035` may stand: the model of the best evaluation.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};

use super::progress::Progress;
use super::tensor_file::{self, Entry, TensorFile};
use super::{CheckpointError, atomic, put_in_place, save_model};
use crate::model::params::ParamName;
use crate::model::{Gpt, Head};
use crate::tensor::Tensor;
use crate::tokenizer::Tokenizer;

const STATE: &str = "state.json";
const CONFIG: &str = "config.toml";
const CHECKSUMS: &str = "checksums.json";
const TENSORS: [&str; 3] = ["weights.safetensors", "m.safetensors", "v.safetensors"];
const STEP_KEY: &str = "calame.n_steps";
/// Bytes that are read at a time.
const PIECE_BYTES: usize = 1 << 20;

/// A training's state, to be written.
#[derive(Clone, Debug)]
pub struct TrainingState<'a> {
    /// The weights, AdamW's running mean of gradients, its running mean of squared gradients.
    pub trees: [&'a Gpt; 3],
    /// The same of the head that the objective owns.
    pub own_heads: Option<[&'a Head; 3]>,
    /// How far the training is.
    pub progress: Progress,
}

/// Every parameter of a tree that is present, and of the head that belongs to it.
fn present<'a>(gpt: &'a Gpt, own_head: Option<&'a Head>) -> impl Iterator<Item = (ParamName, &'a Tensor)> {
    let all = gpt.tensors().chain(own_head.into_iter().flat_map(Head::tensors));
    all.filter(|(_, tensor)| !tensor.is_empty())
}

/// What a file must be.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Checksum {
    file_bytes: u64,
    crc32: String,
}

/// Writes a checkpoint, with the run's settings (TOML) beside the tensors, into a run's folder; returns its folder.
///
/// Of the checkpoints there the newest `n_kept` stay, this one among them, and the best models that they speak of.
///
/// # Errors
/// What the system says, with the file's name; the checkpoints before it are untouched then.
pub fn save_training(
    checkpoints: &Path,
    state: &TrainingState<'_>,
    config: &str,
    n_kept: usize,
) -> Result<PathBuf, CheckpointError> {
    fs::create_dir_all(checkpoints).map_err(CheckpointError::io("create", checkpoints))?;
    let TrainingState { trees, own_heads, progress } = state;
    let folder = checkpoints.join(format!("step-{:06}", progress.n_steps));
    let step = progress.n_steps.to_string();
    atomic::replace_folder(&folder, |folder| {
        for (i, (file, tree)) in TENSORS.iter().zip(trees).enumerate() {
            let own_head = own_heads.map(|heads| heads[i]);
            let entries = present(tree, own_head).map(|(name, tensor)| (name.to_string(), Entry::of(tensor, false)));
            tensor_file::write(&folder.join(file), entries, &[(STEP_KEY, &step)])?;
        }
        atomic::write(&folder.join(CONFIG), config)?;
        atomic::write(&folder.join(STATE), &json(&folder.join(STATE), "state", progress)?)?;
        let sums: Result<BTreeMap<&str, Checksum>, CheckpointError> =
            TENSORS.into_iter().chain([CONFIG, STATE]).map(|file| Ok((file, checksum(&folder.join(file))?))).collect();
        atomic::write(&folder.join(CHECKSUMS), &json(&folder.join(CHECKSUMS), "checksums", &sums?)?)
    })?;
    prune(checkpoints, progress, n_kept)?;
    Ok(folder)
}

fn json<T: Serialize>(path: &Path, what: &'static str, value: &T) -> Result<String, CheckpointError> {
    serde_json::to_string_pretty(value).map_err(|source| CheckpointError::Json { path: path.to_owned(), what, source })
}

/// Removes what is older than the newest `n_kept`, and what a killed program has left.
fn prune(checkpoints: &Path, newest: &Progress, n_kept: usize) -> Result<(), CheckpointError> {
    let mut all = list(checkpoints, "step-", "")?;
    all.sort_unstable_by_key(|(step, _)| std::cmp::Reverse(*step));
    // A later step than this one's belongs to a course that the training has left.
    let n_left = all.iter().take_while(|(step, _)| *step > newest.n_steps).count();
    all.rotate_left(n_left);
    let n_kept = n_kept.max(1).min(all.len() - n_left);
    let mut best: BTreeSet<u64> = newest.best.iter().map(|best| best.step).collect();
    // One whose state cannot be read speaks of no best model; that it is damaged is told when it is to be taken.
    let kept = all[..n_kept].iter().filter_map(|(_, path)| read_progress(path).ok());
    best.extend(kept.filter_map(|progress| progress.best).map(|best| best.step));
    // A state that is written while its training goes on does not know of models that were written since.
    let is_past = |(step, _): &(u64, PathBuf)| *step < newest.n_steps;
    let models = list(checkpoints, "best-", "")?.into_iter().filter(|(step, _)| !best.contains(step)).filter(is_past);
    // A program that is killed while it writes leaves a folder under a name that no later step has.
    let states = list(checkpoints, ".step-", ".partial")?.into_iter();
    let partial = states.chain(list(checkpoints, ".best-", ".partial")?.into_iter().filter(is_past));
    all[n_kept..].iter().cloned().chain(models).chain(partial).try_for_each(|(_, path)| atomic::remove_if_there(&path))
}

/// Removes what a killed program has left half written in a run's folder `checkpoints`, into which nobody else writes now.
///
/// # Errors
/// What the system says.
pub fn clear_partial(checkpoints: &Path) -> Result<(), CheckpointError> {
    let (states, models) = (list(checkpoints, ".step-", ".partial")?, list(checkpoints, ".best-", ".partial")?);
    states.into_iter().chain(models).try_for_each(|(_, path)| atomic::remove_if_there(&path))
}

fn checksum(path: &Path) -> Result<Checksum, CheckpointError> {
    let mut file = File::open(path).map_err(CheckpointError::io("open", path))?;
    let (mut hasher, mut piece) = (crc32fast::Hasher::new(), vec![0; PIECE_BYTES]);
    let mut file_bytes = 0;
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(Checksum { file_bytes, crc32: format!("{:08x}", hasher.finalize()) }),
            Ok(n) => {
                hasher.update(&piece[..n]);
                file_bytes += n as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(CheckpointError::io("read", path)(error)),
        }
    }
}

/// Compares every file of a checkpoint with its checksum.
///
/// # Errors
/// Names the first file that is not what was written.
pub fn verify_checkpoint(folder: &Path) -> Result<(), CheckpointError> {
    let path = folder.join(CHECKSUMS);
    let text = fs::read_to_string(&path).map_err(CheckpointError::io("read", &path))?;
    let expected: BTreeMap<String, Checksum> = serde_json::from_str(&text).map_err(|source| CheckpointError::Json {
        path: path.clone(),
        what: "list of checksums",
        source,
    })?;
    for file in TENSORS.into_iter().chain([CONFIG, STATE]) {
        let expected = expected
            .get(file)
            .ok_or_else(|| CheckpointError::damaged(&path, format!("it has no checksum of {file}")))?;
        let path = folder.join(file);
        let found = checksum(&path)?;
        if found != *expected {
            let shown = |sum: &Checksum| format!("{} bytes with CRC-32 {}", sum.file_bytes, sum.crc32);
            let reason = format!("it has {}, {} were written", shown(&found), shown(expected));
            return Err(CheckpointError::damaged(&path, reason));
        }
    }
    Ok(())
}

/// The newest checkpoint of a run's folder `checkpoints`; None where there is none.
///
/// # Errors
/// If the folder cannot be read.
pub fn latest_checkpoint(checkpoints: &Path) -> Result<Option<PathBuf>, CheckpointError> {
    Ok(list(checkpoints, "step-", "")?.into_iter().max().map(|(_, path)| path))
}

/// The newest checkpoint whose files are all as they were written, None where there is none; and what is wrong with each
/// newer one.
///
/// # Errors
/// If the folder cannot be read.
pub fn sound_checkpoint(checkpoints: &Path) -> Result<(Option<PathBuf>, Vec<CheckpointError>), CheckpointError> {
    let mut all = list(checkpoints, "step-", "")?;
    all.sort_unstable();
    let mut damaged = Vec::new();
    for (_, folder) in all.into_iter().rev() {
        match verify_checkpoint(&folder) {
            Ok(()) => return Ok((Some(folder), damaged)),
            Err(error) => damaged.push(error),
        }
    }
    Ok((None, damaged))
}

/// The folders named by a step between `start` and `end`.
fn list(checkpoints: &Path, start: &str, end: &str) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    let entries = match fs::read_dir(checkpoints) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
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

fn best_folder(checkpoints: &Path, step: u64) -> PathBuf {
    checkpoints.join(format!("best-{step:06}"))
}

/// Writes the model of the best evaluation, that after `step`, into a run's folder `checkpoints`. Earlier ones go that no
/// checkpoint speaks of, but for the last: a checkpoint that is about to be written may.
///
/// # Errors
/// What the system says, with the file's name.
pub fn save_best(checkpoints: &Path, gpt: &Gpt, tokenizer: &dyn Tokenizer, step: u64) -> Result<(), CheckpointError> {
    fs::create_dir_all(checkpoints).map_err(CheckpointError::io("create", checkpoints))?;
    save_model(&best_folder(checkpoints, step), gpt, Some(tokenizer))?;
    // The model is there; what cannot be removed now is tried again after the next one.
    let _ = prune_best(checkpoints, step);
    Ok(())
}

fn prune_best(checkpoints: &Path, step: u64) -> Result<(), CheckpointError> {
    // A state that is being written may speak of any.
    if !list(checkpoints, ".step-", ".partial")?.is_empty() {
        return Ok(());
    }
    let states = list(checkpoints, "step-", "")?;
    let spoken_of = states.iter().filter_map(|(_, path)| read_progress(path).ok()?.best).map(|best| best.step);
    let spoken_of: BTreeSet<u64> = spoken_of.collect();
    let mut earlier = list(checkpoints, "best-", "")?;
    earlier.retain(|(of, _)| *of < step);
    earlier.sort_unstable();
    earlier.pop();
    // Whoever writes states may remove the same ones now.
    earlier.iter().filter(|(of, _)| !spoken_of.contains(of)).try_for_each(|(_, path)| atomic::remove_if_there(path))
}

/// Puts the model of the best evaluation, that after `step`, at `model`; where a program was killed right after it had done
/// so, it stands there.
///
/// # Errors
/// What the system says: it may have been removed.
pub fn take_best(checkpoints: &Path, step: u64, model: &Path) -> Result<(), CheckpointError> {
    if !best_folder(checkpoints, step).exists() && model.is_dir() {
        return Ok(());
    }
    put_in_place(&best_folder(checkpoints, step), model)
}

fn read_progress(folder: &Path) -> Result<Progress, CheckpointError> {
    let path = folder.join(STATE);
    let text = fs::read_to_string(&path).map_err(CheckpointError::io("read", &path))?;
    serde_json::from_str(&text).map_err(|source| CheckpointError::Json { path, what: "training state", source })
}

/// Reads a checkpoint into trees of the run's shape.
///
/// # Errors
/// Names the file and what is wrong with it; the trees hold a part of it then.
pub fn load_training(
    folder: &Path,
    trees: [&mut Gpt; 3],
    own_heads: Option<(&mut Head, &mut [Head; 2])>,
) -> Result<Progress, CheckpointError> {
    let progress = read_progress(folder)?;
    let heads = match own_heads {
        None => [None, None, None],
        Some((head, [m, v])) => [Some(head), Some(m), Some(v)],
    };
    for ((file, tree), head) in TENSORS.iter().zip(trees).zip(heads) {
        read_tree(&folder.join(file), tree, head, progress.n_steps)?;
    }
    Ok(progress)
}

fn read_tree(
    path: &Path,
    tree: &mut Gpt,
    mut own_head: Option<&mut Head>,
    n_steps: u64,
) -> Result<(), CheckpointError> {
    let file = TensorFile::open(path)?;
    if file.metadata(STEP_KEY) != Some(&n_steps.to_string()) {
        let reason = format!("it is of step {:?}, state.json of step {n_steps}", file.metadata(STEP_KEY));
        return Err(CheckpointError::damaged(path, reason));
    }
    let mut problems = Vec::new();
    let mut infos = file.tensors();
    for (name, tensor) in present(tree, own_head.as_deref()) {
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
    let heads = own_head.as_deref_mut().into_iter().flat_map(Head::tensors_mut);
    for (name, tensor) in tree.tensors_mut().chain(heads).filter(|(_, tensor)| !tensor.is_empty()) {
        file.read(&name.to_string(), tensor.host_mut())?;
    }
    Ok(())
}
