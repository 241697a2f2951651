//! Opens the models that verbs are given: what the user knows about them, their notes, their tokenizer.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use calame::device::Device;
use calame::formats::{CheckpointError, KnownSettings, ModelFile, SavedModel};
use calame::model::ModelConfig;
use calame::plan::loading_bytes;
use calame::tokenizer::Tokenizer;

use crate::net::hub;
use crate::training::memory;
use crate::ui::output::{WithHint, grouped, note};
use crate::ui::verbosity;

/// The flags on what a model's files may not state.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
#[group(skip)]
pub struct Args {
    /// Number of attention heads of a file of weights that does not state it
    #[arg(long, value_name = "N")]
    pub n_head: Option<usize>,

    /// The same from another source: used only if the files do not state it.
    #[arg(skip)]
    pub unstated: Option<usize>,
}

/// Opens a model, given by its path, the name of its run under runs/ or its name on the hub.
///
/// # Errors
/// If there is none, or it cannot be read; an unknown number of heads has a hint.
pub fn open(path: &Path, known: Args) -> Result<ModelFile> {
    let path = hub::resolve(path)?;
    verbosity::opened(&path);
    let _phase = verbosity::phase("reading the list of tensors");
    let opened = match ModelFile::open_with(&path, KnownSettings { n_head: known.n_head }) {
        Err(CheckpointError::UnknownHeads { .. }) if known.unstated.is_some() => {
            ModelFile::open_with(&path, KnownSettings { n_head: known.unstated })
        }
        opened => opened,
    };
    opened.map_err(with_hint)
}

/// Reads a model, and prints what had to be assumed about it. `more_bytes` is what the caller will allocate besides the
/// model.
///
/// # Errors
/// As [`open`]; also if memory does not suffice for both.
pub fn load(path: &Path, known: Args, more_bytes: impl FnOnce(&ModelConfig) -> u64) -> Result<SavedModel> {
    load_by(path, known, |file| loading_bytes(file.config()), more_bytes, ModelFile::load)
}

/// As [`load`], with weights as they are stored: for inference.
///
/// # Errors
/// As [`load`].
pub fn load_as_stored(
    dev: &Device,
    path: &Path,
    known: Args,
    more_bytes: impl FnOnce(&ModelConfig) -> u64,
) -> Result<SavedModel> {
    load_by(path, known, ModelFile::stored_bytes, more_bytes, |file| file.load_as_stored(dev))
}

fn load_by(
    path: &Path,
    known: Args,
    model_bytes: impl FnOnce(&ModelFile) -> u64,
    more_bytes: impl FnOnce(&ModelConfig) -> u64,
    read: impl FnOnce(ModelFile) -> Result<SavedModel, CheckpointError>,
) -> Result<SavedModel> {
    let file = open(path, known)?;
    let needed = model_bytes(&file).saturating_add(more_bytes(file.config()));
    let what = format!("{} of {} parameters", path.display(), grouped(file.config().n_parameters() as u64));
    memory::require(&what, needed, "use a smaller model")?;
    let phase = verbosity::phase("reading the model");
    let saved = read(file)?;
    drop(phase);
    for found in &saved.notes {
        note(&format!("note   {}: {found}", saved.path.display()));
    }
    Ok(saved)
}

/// Reads a model for inference and its tokenizer, which is needed to encode `input` (a text, a prompt).
///
/// # Errors
/// As [`load`]; also if the model has no tokenizer that can be used.
pub fn load_with_tokenizer(
    dev: &Device,
    path: &Path,
    known: Args,
    input: &str,
    more_bytes: impl FnOnce(&ModelConfig) -> u64,
) -> Result<(SavedModel, Arc<dyn Tokenizer>)> {
    let mut saved = load_as_stored(dev, path, known, more_bytes)?;
    if let Some(error) = saved.tokenizer_error.take() {
        bail!(error);
    }
    let tokenizer = saved.tokenizer.take().ok_or_else(|| {
        WithHint::new(
            format!("{} has no tokenizer.json, so a {input} cannot be encoded", saved.path.display()),
            "put the model's tokenizer.json into the folder",
        )
    })?;
    Ok((saved, tokenizer))
}

/// Checks that the model has a row for every id of a text, which its tokenizer may not guarantee.
///
/// # Errors
/// Names the first id that the model lacks.
pub fn check_ids(ids: &[u32], vocab_size: usize, path: &Path) -> Result<()> {
    match ids.iter().position(|&id| id as usize >= vocab_size) {
        None => Ok(()),
        Some(at) => bail!(WithHint::new(
            format!(
                "token {} of the text, at position {at}, is not one of the {vocab_size} of {}",
                ids[at],
                path.display()
            ),
            "the model's tokenizer has more tokens than the model: leave out what needs them"
        )),
    }
}

fn with_hint(error: CheckpointError) -> anyhow::Error {
    match &error {
        CheckpointError::UnknownHeads { n_embd, .. } => {
            let usual = match n_embd % 64 {
                0 => format!("; GPT-2 has one for every 64 channels, which would be {}", n_embd / 64),
                _ => String::new(),
            };
            let hint = format!("give it with --n-head N, or in a config.json next to the file{usual}");
            WithHint::new(&error, hint).into()
        }
        CheckpointError::Missing { .. } => WithHint::new(
            &error,
            "give a run or its name under runs/, a model's folder, a file of weights, or a name on the model hub: OWNER/NAME",
        )
        .into(),
        _ => error.into(),
    }
}
