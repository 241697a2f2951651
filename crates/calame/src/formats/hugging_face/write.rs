//! Writing a model's folder.

use std::path::Path;

use serde_json::{Value, json};

use super::layout::{CONFIG, TOKENIZER, WEIGHTS};
use crate::files::{replace_folder, write_new_file};
use crate::formats::CheckpointError;
use crate::formats::model_file::ModelFile;
use crate::formats::names::Naming;
use crate::formats::narrow::check_range;
use crate::formats::safetensors::{Entry, write_tensors};
use crate::model::params::{ParamName, absent_biases, shapes};
use crate::model::{Activation, Gpt, ModelConfig};
use crate::quant::NumberFormat;
use crate::tensor::Alloc;
use crate::tokenizer::Tokenizer;

const GENERATION: &str = "generation_config.json";

/// Saves a model as a folder; a folder that exists there stays intact until the new one is complete.
///
/// # Errors
/// If the system refuses, with the file's name.
///
/// # Panics
/// If the model has adapters, or is not in this machine's memory: [`Gpt::on_host`] copies one of a device.
pub fn save_model(folder: &Path, gpt: &Gpt, tokenizer: Option<&dyn Tokenizer>) -> Result<(), CheckpointError> {
    assert!(
        gpt.rank() == 0,
        "save_model: {}: the model has adapters, which this format does not hold",
        folder.display()
    );
    replace_folder(folder, |folder| {
        write_settings(folder, &gpt.config, tokenizer)?;
        let entries = gpt.tensors().filter_map(|(name, tensor)| {
            if !tensor.is_empty() {
                return Some(Entry::of(key(&name), tensor, name.is_conv1d()));
            }
            name.is_bias().then(|| Entry::zeros(key(&name), name.param.dims(&gpt.config).n_elements()))
        });
        write_tensors(&folder.join(WEIGHTS), entries, &[("format", "pt")])
    })
}

/// Saves a model that stays in its file as [`save_model`] does, one tensor in memory at a time.
///
/// # Errors
/// If the system refuses, with the file's name; if a tensor cannot be read.
pub fn write_hugging_face(folder: &Path, model: &ModelFile) -> Result<(), CheckpointError> {
    write_hugging_face_as(folder, model, NumberFormat::F32)
}

/// As [`write_hugging_face`], with every tensor rounded to f32, f16 or bf16.
///
/// # Errors
/// As [`write_hugging_face`]; if a number is beyond the range of the format.
pub fn write_hugging_face_as(folder: &Path, model: &ModelFile, format: NumberFormat) -> Result<(), CheckpointError> {
    let (config, tokenizer) = (model.config().clone(), model.tokenizer().cloned());
    replace_folder(folder, |folder| {
        write_settings_as(folder, &config, tokenizer.as_deref(), format)?;
        let biases = absent_biases(&config).into_iter().map(|(name, shape)| Entry::zeros(key(&name), shape[0]));
        let entries = shapes(&config).into_iter().map(|(name, shape)| {
            let dims = [shape[..shape.len() - 1].iter().product(), shape[shape.len() - 1]];
            Entry::read(key(&name), &shape, name.is_conv1d(), move || {
                let mut tensor = Alloc::on_host().zeros(dims);
                model.read(name, &mut tensor)?;
                check_range(model, &name, &tensor, format)?;
                Ok(tensor)
            })
        });
        let entries = entries.chain(biases).map(|entry| entry.stored_as(format));
        write_tensors(&folder.join(WEIGHTS), entries, &[("format", "pt")])
    })
}

/// Hugging Face's key of a parameter.
fn key(name: &ParamName) -> String {
    Naming::HuggingFace.keys(&name.to_string()).remove(0)
}

/// Writes the files beside the weights: configuration, generation settings, tokenizer.
pub(in crate::formats) fn write_settings(
    folder: &Path,
    config: &ModelConfig,
    tokenizer: Option<&dyn Tokenizer>,
) -> Result<(), CheckpointError> {
    write_settings_as(folder, config, tokenizer, NumberFormat::F32)
}

/// As [`write_settings`], for weights in this format.
fn write_settings_as(
    folder: &Path,
    config: &ModelConfig,
    tokenizer: Option<&dyn Tokenizer>,
    format: NumberFormat,
) -> Result<(), CheckpointError> {
    let end_of_text = tokenizer.and_then(Tokenizer::end_of_text);
    let hash = tokenizer.map(Tokenizer::hash);
    let json = config_json(config, end_of_text, hash.as_deref(), format);
    let generation = json!({ "bos_token_id": end_of_text, "eos_token_id": end_of_text });
    write_new_file(&folder.join(CONFIG), format!("{json:#}\n").as_bytes())?;
    write_new_file(&folder.join(GENERATION), format!("{generation:#}\n").as_bytes())?;
    if let Some(tokenizer) = tokenizer {
        write_new_file(&folder.join(TOKENIZER), tokenizer.to_json().as_bytes())?;
    }
    Ok(())
}

/// PyTorch's name of a format.
fn torch_dtype(format: NumberFormat) -> &'static str {
    match format {
        NumberFormat::F16 => "float16",
        NumberFormat::Bf16 => "bfloat16",
        _ => "float32",
    }
}

fn config_json(
    config: &ModelConfig,
    end_of_text: Option<u32>,
    tokenizer_hash: Option<&str>,
    format: NumberFormat,
) -> Value {
    json!({
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_positions": config.n_positions,
        "n_ctx": config.n_positions,
        "n_embd": config.n_embd,
        "n_head": config.n_head,
        "n_layer": config.n_layer,
        "n_inner": config.n_inner,
        "activation_function": transformers_name(config.activation),
        "layer_norm_epsilon": shortest(config.layer_norm_epsilon),
        "scale_attn_weights": config.scale_attn_weights,
        "scale_attn_by_inverse_layer_idx": config.scale_attn_by_inverse_layer_idx,
        "attn_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "initializer_range": 0.02,
        "tie_word_embeddings": config.tied_head,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "torch_dtype": torch_dtype(format),
        "use_cache": true,
        "calame": {
            "version": env!("CARGO_PKG_VERSION"),
            "qkv_bias": config.qkv_bias,
            "bias": config.bias,
            "init": config.init,
            "tokenizer_sha256": tokenizer_hash,
        },
    })
}

/// transformers' name of an activation.
fn transformers_name(activation: Activation) -> &'static str {
    match activation {
        Activation::GeluTanh => "gelu_new",
        Activation::Gelu => "gelu",
        Activation::Relu => "relu",
    }
}

/// The f64 with the fewest digits that reads as this f32: 1e-5, not 9.999999747378752e-6.
fn shortest(x: f32) -> f64 {
    x.to_string().parse().unwrap_or_else(|_| x.into())
}
