//! Training checkpoints: weights, both moments, and the progress of a training.
//!
//! A checkpoint is a folder `checkpoints/step-000040` with `weights.safetensors`, `m.safetensors`, `v.safetensors`
//! (under the parameters' own names and shapes), `state.json`, the run's `config.toml` at that time, and
//! `checksums.json` with the size and CRC-32 of each file. Random streams are functions of seed and step, so the step
//! is their state; a run that follows a PyTorch script also stores its generator.
//!
//! The checksums are CRC-32, not SHA-256: they detect damage, not malice, and 2 GB are checked in 250 ms. They are
//! computed from the files after they have been written.
//!
//! With early stopping, `checkpoints/best-000035` holds the model of the best evaluation. It is a saved model, written
//! at the evaluation that found it. At the end of the run it is only renamed, so no second copy of the weights has to
//! be in memory.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::files::{
    crc32_of_file, create_folders, is_temporary_name, move_folder, remove_folder_if_exists, replace_folder,
    write_new_file,
};
use crate::formats::json::read_json;
use crate::formats::safetensors::{Entry, TensorFile, write_tensors};
use crate::formats::{CheckpointError, save_model};
use crate::model::params::ParamName;
use crate::model::{Gpt, Head};
use crate::tensor::Tensor;
use crate::tokenizer::Tokenizer;
use crate::train::progress::Progress;
use crate::train::state::TrainingState;

const STATE: &str = "state.json";
const CONFIG: &str = "config.toml";
const CHECKSUMS: &str = "checksums.json";
const TENSORS: [&str; 3] = ["weights.safetensors", "m.safetensors", "v.safetensors"];
const STEP_KEY: &str = "calame.n_steps";

/// Whether a checkpoint has a file of this name, besides those of a model.
pub(crate) fn is_checkpoint_file_name(name: &str) -> bool {
    TENSORS.contains(&name) || [STATE, CONFIG, CHECKSUMS].contains(&name)
}

/// The parameters of a tree that are present, followed by those of its own head.
fn present<'a>(gpt: &'a Gpt, own_head: Option<&'a Head>) -> impl Iterator<Item = (ParamName, &'a Tensor)> {
    let all = gpt.tensors().chain(own_head.into_iter().flat_map(Head::tensors));
    all.filter(|(_, tensor)| !tensor.is_empty())
}

/// Expected size and checksum of a file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Checksum {
    file_bytes: u64,
    crc32: String,
}

/// Writes a checkpoint into a run's `checkpoints` folder, including the run's settings (TOML), and returns its folder.
///
/// Keeps the newest `n_kept` checkpoints, including this one, and the best models that they refer to. If the disk is
/// full, older checkpoints are removed first, except the newest one that is undamaged.
///
/// # Errors
/// Returns the system's error with the file's name; earlier checkpoints are unchanged in that case.
pub fn save_training(
    checkpoints: &Path,
    state: &TrainingState<'_>,
    config: &str,
    n_kept: usize,
) -> Result<PathBuf, CheckpointError> {
    create_folders(checkpoints)?;
    loop {
        match write_state(checkpoints, state, config) {
            Err(error) if is_disk_full(&error) && free_checkpoint(checkpoints, state.progress.n_steps)? => {}
            Err(error) => return Err(error),
            Ok(folder) => {
                prune(checkpoints, &state.progress, n_kept)?;
                return Ok(folder);
            }
        }
    }
}

fn write_state(checkpoints: &Path, state: &TrainingState<'_>, config: &str) -> Result<PathBuf, CheckpointError> {
    let TrainingState { dev, trees, own_heads, progress } = state;
    let folder = checkpoints.join(format!("step-{:06}", progress.n_steps));
    let step = progress.n_steps.to_string();
    replace_folder::<CheckpointError>(&folder, |folder| {
        for (i, (file, tree)) in TENSORS.iter().zip(trees).enumerate() {
            let own_head = own_heads.map(|heads| heads[i]);
            let entries = present(tree, own_head).map(|(name, tensor)| Entry::on(dev, name.to_string(), tensor));
            write_tensors(&folder.join(file), entries, &[(STEP_KEY, &step)])?;
        }
        write_new_file(&folder.join(CONFIG), config.as_bytes())?;
        write_json(&folder.join(STATE), "state", progress)?;
        let sums: Result<BTreeMap<&str, Checksum>, CheckpointError> =
            TENSORS.into_iter().chain([CONFIG, STATE]).map(|file| Ok((file, checksum(&folder.join(file))?))).collect();
        write_json(&folder.join(CHECKSUMS), "checksums", &sums?)
    })?;
    Ok(folder)
}

/// Whether an error was caused by a full disk or an exhausted quota.
pub fn is_disk_full(error: &(dyn Error + 'static)) -> bool {
    system_error(error).is_some_and(|kind| matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
}

/// The kind of the system's error that caused `error`, if the system did.
pub fn system_error(error: &(dyn Error + 'static)) -> Option<ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        next = error.source();
    }
    None
}

/// Makes space on a full disk: removes the oldest checkpoint if the newest one, which is kept, is undamaged. Those of
/// steps after `n_steps` belong to a course of training that was rolled back and are removed first. Returns whether one
/// was removed.
///
/// # Errors
/// If the system refuses.
pub fn free_checkpoint(checkpoints: &Path, n_steps: u64) -> Result<bool, CheckpointError> {
    let mut all = list(checkpoints, "step-")?;
    all.sort_unstable_by_key(|(step, _)| (*step > n_steps, Reverse(*step)));
    let Some(((_, newest), older)) = all.split_first() else { return Ok(false) };
    let Some((_, oldest)) = older.last() else { return Ok(false) };
    if verify_checkpoint(newest).is_err() {
        return Ok(false);
    }
    remove_folder_if_exists(oldest)?;
    Ok(true)
}

fn write_json<T: Serialize>(path: &Path, what: &'static str, value: &T) -> Result<(), CheckpointError> {
    let wrong = |source| CheckpointError::Json { path: path.to_owned(), what, source };
    let json = serde_json::to_vec_pretty(value).map_err(wrong)?;
    Ok(write_new_file(path, &json)?)
}

/// Removes all but the newest `n_kept` checkpoints, and leftovers of killed programs.
fn prune(checkpoints: &Path, newest: &Progress, n_kept: usize) -> Result<(), CheckpointError> {
    let mut all = list(checkpoints, "step-")?;
    all.sort_unstable_by_key(|(step, _)| Reverse(*step));
    // A later step belongs to a course of training that was rolled back.
    let n_left = all.iter().take_while(|(step, _)| *step > newest.n_steps).count();
    all.rotate_left(n_left);
    let n_kept = n_kept.max(1).min(all.len() - n_left);
    let mut best: BTreeSet<u64> = newest.best.iter().map(|best| best.step).collect();
    // An unreadable state refers to no best model; the damage is reported when the checkpoint is used.
    let kept = all[..n_kept].iter().filter_map(|(_, path)| checkpoint_progress(path).ok());
    best.extend(kept.filter_map(|progress| progress.best).map(|best| best.step));
    // A state that is written in the background does not know about best models written since.
    let is_past = |(step, _): &(u64, PathBuf)| *step < newest.n_steps;
    let models = list(checkpoints, "best-")?.into_iter().filter(|(step, _)| !best.contains(step)).filter(is_past);
    // A program killed while writing leaves a folder under a name that no later step uses.
    let states = unfinished(checkpoints, ".step-")?.into_iter();
    let partial = states.chain(unfinished(checkpoints, ".best-")?.into_iter().filter(is_past));
    let removed = all[n_kept..].iter().cloned().chain(models).chain(partial);
    removed.into_iter().try_for_each(|(_, path)| Ok(remove_folder_if_exists(&path)?))
}

/// Removes incomplete folders of killed programs from a run's `checkpoints` folder. No other program may be writing to
/// it.
///
/// # Errors
/// Returns the system's error.
pub fn clear_partial(checkpoints: &Path) -> Result<(), CheckpointError> {
    let (states, models) = (unfinished(checkpoints, ".step-")?, unfinished(checkpoints, ".best-")?);
    states.into_iter().chain(models).try_for_each(|(_, path)| Ok(remove_folder_if_exists(&path)?))
}

fn checksum(path: &Path) -> Result<Checksum, CheckpointError> {
    let (file_bytes, crc32) = crc32_of_file(path)?;
    Ok(Checksum { file_bytes, crc32: format!("{crc32:08x}") })
}

/// Compares the files of a checkpoint with their checksums.
///
/// # Errors
/// Names the first file that differs from what was written.
pub fn verify_checkpoint(folder: &Path) -> Result<(), CheckpointError> {
    let path = folder.join(CHECKSUMS);
    let expected: BTreeMap<String, Checksum> = read_json(&path, "list of checksums")?;
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

/// The newest checkpoint in a run's `checkpoints` folder, or `None`.
///
/// # Errors
/// If the folder cannot be read.
pub fn latest_checkpoint(checkpoints: &Path) -> Result<Option<PathBuf>, CheckpointError> {
    Ok(list(checkpoints, "step-")?.into_iter().max().map(|(_, path)| path))
}

/// The newest undamaged checkpoint, or `None`, and the errors of all newer ones.
///
/// # Errors
/// If the folder cannot be read.
pub fn sound_checkpoint(checkpoints: &Path) -> Result<(Option<PathBuf>, Vec<CheckpointError>), CheckpointError> {
    let mut all = list(checkpoints, "step-")?;
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

/// The folders whose names consist of `start` and a step.
fn list(checkpoints: &Path, start: &str) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    folders(checkpoints, |name| name.strip_prefix(start)?.parse().ok())
}

/// The folders under the temporary names of those that [`list`] finds.
fn unfinished(checkpoints: &Path, start: &str) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    let step = |name: &str| name.strip_prefix(start)?.split('.').next()?.parse().ok();
    folders(checkpoints, |name| step(name).filter(|_| is_temporary_name(name)))
}

/// The folders whose names contain a step, and the step.
fn folders(checkpoints: &Path, step: impl Fn(&str) -> Option<u64>) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    let entries = match fs::read_dir(checkpoints) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(CheckpointError::io("read", checkpoints))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(CheckpointError::io("read", checkpoints))?.path();
        let step = path.file_name().and_then(|name| step(name.to_str()?));
        found.extend(step.filter(|_| path.is_dir()).map(|step| (step, path)));
    }
    Ok(found)
}

fn best_folder(checkpoints: &Path, step: u64) -> PathBuf {
    checkpoints.join(format!("best-{step:06}"))
}

/// Writes the model of the best evaluation, made after `step`, into a run's `checkpoints` folder. Like [`save_model`]
/// it requires a model in host memory. Removes earlier best models that no checkpoint refers to, except the latest: a
/// checkpoint that is about to be written may refer to it.
///
/// # Errors
/// Returns the system's error with the file's name.
pub fn save_best(checkpoints: &Path, gpt: &Gpt, tokenizer: &dyn Tokenizer, step: u64) -> Result<(), CheckpointError> {
    create_folders(checkpoints)?;
    let folder = best_folder(checkpoints, step);
    loop {
        match save_model(&folder, gpt, Some(tokenizer)) {
            Err(error) if is_disk_full(&error) && free_checkpoint(checkpoints, step + 1)? => {}
            saved => break saved?,
        }
    }
    // The model has been written; files that cannot be removed now are tried again after the next one.
    let _ = prune_best(checkpoints, step);
    Ok(())
}

fn prune_best(checkpoints: &Path, step: u64) -> Result<(), CheckpointError> {
    // A state that is being written may refer to any of them.
    if !unfinished(checkpoints, ".step-")?.is_empty() {
        return Ok(());
    }
    let states = list(checkpoints, "step-")?;
    let referenced = states.iter().filter_map(|(_, path)| checkpoint_progress(path).ok()?.best).map(|best| best.step);
    let referenced: BTreeSet<u64> = referenced.collect();
    let mut earlier = list(checkpoints, "best-")?;
    earlier.retain(|(of, _)| *of < step);
    earlier.sort_unstable();
    earlier.pop();
    // A thread that writes checkpoints may be removing the same folders.
    earlier
        .iter()
        .filter(|(of, _)| !referenced.contains(of))
        .try_for_each(|(_, path)| Ok(remove_folder_if_exists(path)?))
}

/// Moves the best model, found after `step`, to `model`. If a program was killed right after this, the model is already
/// there.
///
/// # Errors
/// Returns the system's error, for example if the best model has been removed.
pub fn take_best(checkpoints: &Path, step: u64, model: &Path) -> Result<(), CheckpointError> {
    if !best_folder(checkpoints, step).exists() && model.is_dir() {
        return Ok(());
    }
    Ok(move_folder(&best_folder(checkpoints, step), model)?)
}

/// Reads how far a training had come when its checkpoint in `folder` was written.
///
/// # Errors
/// If `state.json` cannot be read.
pub fn checkpoint_progress(folder: &Path) -> Result<Progress, CheckpointError> {
    read_json(&folder.join(STATE), "training state")
}

/// Reads a checkpoint into trees of the run's shape, on their device.
///
/// # Errors
/// Names the file and what is wrong with it; the trees may be partly overwritten.
pub fn load_training(
    dev: &Device,
    folder: &Path,
    trees: [&mut Gpt; 3],
    own_heads: Option<(&mut Head, &mut [Head; 2])>,
) -> Result<Progress, CheckpointError> {
    let progress = checkpoint_progress(folder)?;
    let heads = match own_heads {
        None => [None, None, None],
        Some((head, [m, v])) => [Some(head), Some(m), Some(v)],
    };
    for ((file, tree), head) in TENSORS.iter().zip(trees).zip(heads) {
        read_tree(dev, &folder.join(file), tree, head, progress.n_steps)?;
    }
    Ok(progress)
}

fn read_tree(
    dev: &Device,
    path: &Path,
    tree: &mut Gpt,
    own_head: Option<&mut Head>,
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
    let heads = own_head.into_iter().flat_map(Head::tensors_mut);
    for (name, tensor) in tree.tensors_mut().chain(heads).filter(|(_, tensor)| !tensor.is_empty()) {
        dev.overwrite(tensor, |elements| file.read(&name.to_string(), elements))?;
    }
    Ok(())
}
