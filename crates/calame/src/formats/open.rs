//! Opens a saved model of any format: recognises the format and determines shape and tokenizer.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::hugging_face::Stated;
use super::inside::file_inside;
use super::llmc::{self, LlmcFile};
use super::model_file::{ModelFile, SavedModel};
use super::opened::{Format, Opened};
use super::safetensors::SafetensorsFiles;
use super::shape::{self, Shape};
use super::source::TensorSource;
use super::torch::{PlainValue, Record, TorchSource};
use super::{CheckpointError, gguf, hugging_face};
use crate::files::PositionedFile;
use crate::tokenizer::{Bpe, Tokenizer};

/// What a caller knows about a model that its files may not state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownSettings {
    /// NH, the number of attention heads. A file of weights may lack it, and no tensor's shape shows it.
    pub n_head: Option<usize>,
}

const INDEX: &str = "model.safetensors.index.json";
const TORCH_WEIGHTS: &str = "pytorch_model.bin";
const NANOGPT: &str = "ckpt.pt";
/// First byte of a pickle, and therefore of PyTorch files before version 1.6.
const PICKLE: u8 = 0x80;

impl ModelFile {
    /// Opens a run folder, a folder in Hugging Face's layout, or a file of weights.
    ///
    /// Every size claimed by the files is compared with their actual size before memory is allocated for it.
    ///
    /// # Errors
    /// Names the file and what is wrong with it; missing, unexpected or misshapen tensors are listed together.
    /// [`CheckpointError::UnknownHeads`] if no file states the number of heads: see [`open_with`](Self::open_with).
    pub fn open(path: &Path) -> Result<ModelFile, CheckpointError> {
        ModelFile::open_with(path, KnownSettings::default())
    }

    /// As [`open`](Self::open), with what the caller knows about the model.
    ///
    /// # Errors
    /// As [`open`](Self::open); also if the files state something else.
    pub fn open_with(path: &Path, options: KnownSettings) -> Result<ModelFile, CheckpointError> {
        let path = find_model(path)?;
        let opened = if path.is_dir() { open_folder(&path, options)? } else { open_file(&path, options)? };
        let found = opened.config.n_head;
        match options.n_head.filter(|given| *given != found) {
            Some(given) => Err(CheckpointError::HeadsDiffer { path, found, given }),
            None => ModelFile::of(path, opened),
        }
    }
}

/// Reads a model and its tokenizer, in any format.
///
/// # Errors
/// As [`ModelFile::open`] and [`ModelFile::read`].
pub fn load_model(path: &Path) -> Result<SavedModel, CheckpointError> {
    ModelFile::open(path)?.load()
}

/// Resolves a path to a file or folder with a model: the path itself, or `model` within a run folder.
///
/// # Errors
/// If there is nothing at the path, or no model.
pub fn find_model(path: &Path) -> Result<PathBuf, CheckpointError> {
    if path.is_file() {
        return Ok(path.to_owned());
    }
    for folder in [path.to_owned(), path.join("model")] {
        if [hugging_face::CONFIG, NANOGPT].iter().any(|file| folder.join(file).is_file()) {
            return Ok(folder);
        }
    }
    if !path.exists() {
        return Err(CheckpointError::Missing { path: path.to_owned() });
    }
    let remedy = if fs::read_dir(path.join("checkpoints")).is_ok_and(|mut entries| entries.next().is_some()) {
        format!("its training was not finished: `calame train --resume {}` does that", path.display())
    } else {
        "give a run's folder, a folder with these files, or a file of weights".to_owned()
    };
    Err(not_a_model(path, remedy))
}

fn not_a_model(path: &Path, remedy: String) -> CheckpointError {
    CheckpointError::NotAModel {
        path: path.to_owned(),
        expected: "config.json and model.safetensors in it or in its subfolder model",
        remedy,
    }
}

/// Opens a folder in Hugging Face's layout, or nanoGPT's with its ckpt.pt.
fn open_folder(folder: &Path, options: KnownSettings) -> Result<Opened, CheckpointError> {
    let config_path = folder.join(hugging_face::CONFIG);
    if !config_path.is_file() {
        return open_file(&file_inside(folder, NANOGPT, folder)?, options);
    }
    let json = hugging_face::read_config(&config_path)?;
    let mut stated = Stated::read(&config_path, &json)?;
    stated.n_head = stated.n_head.or(options.n_head);
    let named = [hugging_face::WEIGHTS, INDEX, TORCH_WEIGHTS].into_iter().find(|name| folder.join(name).exists());
    let name = named.unwrap_or(hugging_face::WEIGHTS);
    let weights = file_inside(folder, name, folder)?;
    let source: Box<dyn TensorSource> = match name {
        INDEX => Box::new(SafetensorsFiles::sharded(&weights)?),
        TORCH_WEIGHTS => Box::new(TorchSource::open(&weights)?),
        _ => Box::new(SafetensorsFiles::one(&weights)?),
    };
    let says_tied = stated.says_tied;
    let Shape { config, conv1d, notes } = shape::shape_of(&weights, source.tensors(), stated)?;
    let opened = Opened::new(Format::HuggingFace, &weights, source, config, conv1d.unwrap_or(true));
    let mut opened = Opened { says_tied, notes, ..opened };
    hugging_face::read_text_settings(folder, &json, &mut opened);
    Ok(opened)
}

/// Opens a file, recognising its format by its first bytes.
fn open_file(path: &Path, options: KnownSettings) -> Result<Opened, CheckpointError> {
    let mut start = [0; 16];
    let file = PositionedFile::open(path)?;
    let start = &mut start[..file.n_bytes().min(16) as usize];
    file.read_exact(0, start)?;
    if start.starts_with(&llmc::MAGIC.to_le_bytes()) {
        return open_llmc(path);
    }
    if start.starts_with(&gguf::MAGIC) {
        return gguf::open(path);
    }
    if start.get(8) == Some(&b'{') {
        let source = Box::new(SafetensorsFiles::one(path)?);
        return open_weights(path, Format::Safetensors, source, None, options);
    }
    if !start.starts_with(b"PK\x03\x04") && start.first() != Some(&PICKLE) {
        return Err(not_a_model(
            path,
            "give a run's folder, a folder with these files, or a file of weights".to_owned(),
        ));
    }
    let source = TorchSource::open(path)?;
    if let Some(record) = source.record(path)? {
        return recorded(path, source, record);
    }
    let (args, note) = (source.model_args(), source.note());
    let mut opened = open_weights(path, Format::Torch, Box::new(source), args.as_ref(), options)?;
    opened.notes.extend(note);
    Ok(opened)
}

fn open_llmc(path: &Path) -> Result<Opened, CheckpointError> {
    let source = LlmcFile::open(path)?;
    let config = source.config().clone();
    let mut opened = Opened::new(Format::Llmc, path, Box::new(source), config, false);
    opened.assume_gpt2_tokenizer();
    Ok(opened)
}

/// Opens a PyTorch file written by calame, which records its shape and the hash of its tokenizer.
fn recorded(path: &Path, source: TorchSource, record: Record) -> Result<Opened, CheckpointError> {
    let beside = path.with_file_name(hugging_face::TOKENIZER);
    let Record { config, tokenizer_sha256, bounds, .. } = record;
    let mut opened = Opened::new(Format::Torch, path, Box::new(source), config, false);
    opened.bounds = bounds.unwrap_or_default();
    let Some(hash) = tokenizer_sha256 else { return Ok(opened) };
    // A tokenizer next to the file may belong to another model, or be missing.
    let found = hugging_face::read_tokenizer_file(&beside).ok();
    let known = found.into_iter().chain([Bpe::gpt2() as Arc<dyn Tokenizer>]);
    opened.tokenizer = known.into_iter().find(|tokenizer| tokenizer.hash() == hash);
    if opened.tokenizer.is_none() {
        opened.notes.push(format!("no tokenizer in the file, and its own is not at {}", beside.display()));
    }
    Ok(opened)
}

/// Opens a file of weights: its shape follows from what the file states, from the whole config.json next to it, and from
/// its tensors.
fn open_weights(
    path: &Path,
    format: Format,
    source: Box<dyn TensorSource>,
    args: Option<&PlainValue>,
    options: KnownSettings,
) -> Result<Opened, CheckpointError> {
    let beside = path.with_file_name(hugging_face::CONFIG);
    let json = if beside.is_file() { Some(hugging_face::read_config(&beside)?) } else { None };
    let mut stated = match &json {
        Some(json) if Stated::is_of_a_model(json) => Stated::read(&beside, json)?,
        Some(_) => Stated {
            notes: vec![format!("{} describes no model: it is not used", beside.display())],
            ..Stated::default()
        },
        None => Stated::default(),
    };
    let json = json.filter(|_| stated.path.is_some());
    shape::check_beside(path, source.tensors(), &stated)?;
    if let Some(args) = args {
        shape::add_args(path, args, &mut stated)?;
    }
    stated.n_head = stated.n_head.or(options.n_head);
    let says_tied = stated.says_tied;
    let Shape { config, conv1d, notes } = shape::shape_of(path, source.tensors(), stated)?;
    let opened = Opened::new(format, path, source, config, conv1d.unwrap_or(false));
    let mut opened = Opened { says_tied, notes, ..opened };
    match (path.parent(), &json) {
        (Some(folder), Some(json)) => hugging_face::read_text_settings(folder, json, &mut opened),
        _ => opened.assume_gpt2_tokenizer(),
    }
    Ok(opened)
}
