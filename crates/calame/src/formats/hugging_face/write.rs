//! Writing a model's folder.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::layout::{CONFIG, GENERATION, SPECIAL_TOKENS, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS};
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
use crate::tokenizer::{TextBounds, Tokenizer};

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
        let bounds = tokenizer.map(TextBounds::of).unwrap_or_default();
        write_settings(folder, &gpt.config, tokenizer, &bounds)?;
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
        write_settings_as(folder, &config, tokenizer.as_deref(), model.bounds(), format)?;
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
    bounds: &TextBounds,
) -> Result<(), CheckpointError> {
    write_settings_as(folder, config, tokenizer, bounds, NumberFormat::F32)
}

/// As [`write_settings`], for weights in this format.
fn write_settings_as(
    folder: &Path,
    config: &ModelConfig,
    tokenizer: Option<&dyn Tokenizer>,
    bounds: &TextBounds,
    format: NumberFormat,
) -> Result<(), CheckpointError> {
    let write = |name: &str, json: &Value| write_new_file(&folder.join(name), format!("{json:#}\n").as_bytes());
    let hash = tokenizer.map(Tokenizer::hash);
    write(CONFIG, &config_json(config, bounds, hash.as_deref(), format))?;
    write(GENERATION, &json!({ "bos_token_id": bounds.begin, "eos_token_id": end_json(bounds) }))?;
    if let Some(tokenizer) = tokenizer {
        write_new_file(&folder.join(TOKENIZER), tokenizer.to_json().as_bytes())?;
        let special = special_tokens(tokenizer, bounds);
        write(TOKENIZER_CONFIG, &tokenizer_config(&special, config.n_positions))?;
        write(SPECIAL_TOKENS, &Value::Object(special))?;
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

/// The ids that end a text as other programs write them: one id, or a list of several.
fn end_json(bounds: &TextBounds) -> Value {
    match bounds.ends[..] {
        [] => Value::Null,
        [end] => end.into(),
        ref ends => ends.into(),
    }
}

/// The texts of the tokens that begin and end texts, by the names of their roles. An id that is no special token of the
/// tokenizer has no role there.
fn special_tokens(tokenizer: &dyn Tokenizer, bounds: &TextBounds) -> Map<String, Value> {
    let special = tokenizer.special_texts();
    let text = |id: u32| tokenizer.decode(&[id]).ok().filter(|text| special.contains(&text.as_str()));
    let roles = [("bos_token", bounds.begin), ("eos_token", bounds.ends.first().copied())];
    let texts = roles.into_iter().filter_map(|(role, id)| Some((role.to_owned(), text(id?)?.into())));
    texts.collect()
}

/// The settings that transformers' `AutoTokenizer` needs besides tokenizer.json. The class is the general one, which takes
/// everything from that file.
fn tokenizer_config(special: &Map<String, Value>, n_positions: usize) -> Value {
    let mut json = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": n_positions,
        "clean_up_tokenization_spaces": false,
    });
    special.iter().for_each(|(role, text)| json[role] = text.clone());
    json
}

fn config_json(config: &ModelConfig, bounds: &TextBounds, tokenizer_hash: Option<&str>, format: NumberFormat) -> Value {
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
        "bos_token_id": bounds.begin,
        "eos_token_id": end_json(bounds),
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
