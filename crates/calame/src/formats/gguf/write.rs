//! Writes GGUF files, tensor by tensor.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::header::{DEFAULT_ALIGNMENT, MAGIC};
use super::metadata::{Metadata, put_text};
use crate::files::{create_parent_folder, replace_file};
use crate::formats::CheckpointError;
use crate::formats::model_file::ModelFile;
use crate::formats::names::Naming;
use crate::formats::narrow::{check_range, write_elements};
use crate::model::params::{ParamName, shapes};
use crate::model::{ModelConfig, Preset};
use crate::quant::{NumberFormat, format_for_rows};
use crate::tensor::{Alloc, Tensor};

const VERSION: u32 = 3;

/// A tensor to be written.
struct Entry {
    name: ParamName,
    shape: Vec<usize>,
    format: NumberFormat,
    /// Byte offset from the start of the tensor data.
    offset: u64,
}

/// Writes a model as a GGUF file that llama.cpp loads. An existing file at `path` stays intact until the new one is
/// complete. Returns one sentence for each property that the format cannot hold.
///
/// Every tensor is f32: [`write_gguf_as`] writes others. A tied head is not written, as in files of llama.cpp's
/// converter. If the model lacks biases, zeros are written and marked by `calame.qkv_bias` or `calame.bias` = false. At
/// most one tensor is in memory at a time.
///
/// # Errors
/// Returns the system's error with the file's name, what is wrong with the model, or the setting of the model that
/// llama.cpp does not compute with.
pub fn write_gguf(path: &Path, model: &ModelFile) -> Result<Vec<String>, CheckpointError> {
    write_gguf_as(path, model, NumberFormat::F32)
}

/// As [`write_gguf`], with matrices and the token embedding in any number format: the nearest numbers of f32, f16 and
/// bf16, blocks as llama.cpp quantizes them without an importance matrix. Vectors and the position embedding stay f32, as
/// in files of llama.cpp. A matrix whose rows are not whole blocks is f16, with a note.
///
/// # Errors
/// As [`write_gguf`]; if a number is beyond the range of the format.
pub fn write_gguf_as(path: &Path, model: &ModelFile, format: NumberFormat) -> Result<Vec<String>, CheckpointError> {
    model.check_absent_biases()?;
    let config = model.config().clone();
    check_settings(path, &config)?;
    let mut notes = Vec::new();
    if !config.bias {
        notes.push("the model has no biases, GGUF demands them: zeros are written".to_owned());
    } else if !config.qkv_bias {
        notes.push("the model has no qkv bias, GGUF demands one: zeros are written".to_owned());
    }
    let tokenizer = model.tokenizer().cloned();
    let lists = tokenizer.as_ref().and_then(|tokenizer| tokenizer.bpe_lists());
    // llama.cpp needs a row of the embedding for every token.
    let lists = lists.filter(|lists| lists.tokens.len() <= config.vocab_size);
    match &tokenizer {
        None => notes.push("no tokenizer: llama.cpp takes token ids only".to_owned()),
        Some(tokenizer) if tokenizer.n_vocab() > config.vocab_size => notes.push(format!(
            "the tokenizer is left out: it has {} tokens, the model {}",
            tokenizer.n_vocab(),
            config.vocab_size
        )),
        Some(tokenizer) if lists.is_none() => notes.push(format!(
            "the tokenizer {} is left out, GGUF cannot hold it: keep the model's tokenizer.json",
            tokenizer.kind()
        )),
        Some(_) => {}
    }
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let entries = entries(&config, format);
    notes.extend(note_on_rows(&entries, format));
    let bounds = model.bounds();
    if bounds.ends.len() > 2 {
        notes.push(format!("GGUF holds two ids that end a text, the model has {:?}", bounds.ends));
    }
    let header = header(&Metadata::of(&config, lists, bounds, &name, format), &entries);
    create_parent_folder(path)?;
    replace_file::<CheckpointError>(path, |file| {
        let io = || CheckpointError::io("write", path);
        file.write_all(&header).map_err(io())?;
        for entry in &entries {
            let mut tensor = match entry.shape[..] {
                [n] => Alloc::on_host().zeros([n]),
                _ => Alloc::on_host().zeros([entry.shape[0], entry.shape[1..].iter().product()]),
            };
            if entry.name.is_in(&config) {
                model.read(entry.name, &mut tensor)?;
                check_range(model, &entry.name, &tensor, entry.format)?;
            }
            write_tensor(file, entry.format, &tensor).map_err(io())?;
        }
        Ok(())
    })?;
    Ok(notes)
}

/// Checks that llama.cpp computes a model as its configuration says; the format has no place for these settings.
fn check_settings(path: &Path, config: &ModelConfig) -> Result<(), CheckpointError> {
    let usual = Preset::Gpt2.config();
    let setting = if config.activation != usual.activation {
        format!("activation = {}", config.activation)
    } else if config.scale_attn_weights != usual.scale_attn_weights {
        format!("scale_attn_weights = {}", config.scale_attn_weights)
    } else if config.scale_attn_by_inverse_layer_idx != usual.scale_attn_by_inverse_layer_idx {
        format!("scale_attn_by_inverse_layer_idx = {}", config.scale_attn_by_inverse_layer_idx)
    } else {
        return Ok(());
    };
    Err(CheckpointError::CannotHold {
        path: path.to_owned(),
        format: "GGUF",
        setting,
        reason: "llama.cpp computes every GPT-2 with gelu-tanh and scores divided by the root of the head's size",
        remedy: "export to safetensors or onnx, which hold it",
    })
}

/// All tensors of the file, each at the first aligned offset after the previous one.
fn entries(config: &ModelConfig, matrices: NumberFormat) -> Vec<Entry> {
    let mut end = 0u64;
    let place = |(name, shape): (ParamName, Vec<usize>)| {
        let is_kept = shape.len() == 1 || name.param.is_position_table();
        let row_len = shape[shape.len() - 1];
        let format = if is_kept { NumberFormat::F32 } else { format_for_rows(matrices, row_len) };
        let offset = end.next_multiple_of(DEFAULT_ALIGNMENT);
        end = offset + n_bytes(format, shape.iter().product());
        Entry { name, shape, format, offset }
    };
    shapes(&config.with_biases()).into_iter().map(place).collect()
}

fn n_bytes(format: NumberFormat, n_elements: usize) -> u64 {
    (n_elements / format.block_len() * format.block_bytes()) as u64
}

/// A note on matrices whose rows are not whole blocks of the format, if there are any.
fn note_on_rows(entries: &[Entry], format: NumberFormat) -> Option<String> {
    let is_other = |entry: &&Entry| ![format, NumberFormat::F32].contains(&entry.format);
    let n = entries.iter().filter(is_other).count();
    entries.iter().find(is_other).map(|first| {
        let (written, name) = (first.format, &first.name);
        format!(
            "{n} matrices are written as {written}, because their rows are not whole blocks of {format}; {name} is the first"
        )
    })
}

/// Everything before the tensor data, padded to its alignment.
fn header(metadata: &Metadata, entries: &[Entry]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((entries.len() as u64).to_le_bytes());
    bytes.extend(metadata.n_values.to_le_bytes());
    bytes.extend(&metadata.bytes);
    for entry in entries {
        put_text(&mut bytes, &Naming::Gguf.keys(&entry.name.to_string())[0]);
        bytes.extend((entry.shape.len() as u32).to_le_bytes());
        entry.shape.iter().rev().for_each(|&d| bytes.extend((d as u64).to_le_bytes()));
        bytes.extend(entry.format.ggml_type().to_le_bytes());
        bytes.extend(entry.offset.to_le_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(DEFAULT_ALIGNMENT as usize), 0);
    bytes
}

/// Writes a tensor's bytes, padded up to the next tensor.
fn write_tensor(file: &mut BufWriter<File>, format: NumberFormat, tensor: &Tensor) -> std::io::Result<()> {
    write_elements(file, tensor.host(), format)?;
    let n = n_bytes(format, tensor.len());
    let padding = n.next_multiple_of(DEFAULT_ALIGNMENT) - n;
    file.write_all(&[0; DEFAULT_ALIGNMENT as usize][..padding as usize])
}
