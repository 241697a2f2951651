//! A saved model: a folder in Hugging Face's layout that `transformers` loads as `GPT2LMHeadModel`.
//!
//! `config.json`, `model.safetensors`, `tokenizer.json`, `generation_config.json`. What calame alone knows stands in
//! config.json under `calame`: whether there is a qkv bias (a model without one is written with zeros, because the
//! format has no way to leave it out), and the tokenizer's hash.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::CheckpointError;
use super::json::{MAX_JSON_BYTES, read_json};
use super::model_file::ModelFile;
use super::names::{self, Naming};
use super::tensor_write::{self, Entry};
use crate::files::{read_text_at_most, replace_folder, write_new_file};
use crate::model::params::{ParamName, shapes};
use crate::model::{Gpt, Init, ModelConfig};
use crate::tensor::Alloc;
use crate::tokenizer::{self, Tokenizer};

pub(super) const CONFIG: &str = "config.json";
pub(super) const WEIGHTS: &str = "model.safetensors";
pub(super) const TOKENIZER: &str = "tokenizer.json";
const GENERATION: &str = "generation_config.json";
const QKV_BIAS: &str = "attn.c_attn.bias";

/// Saves a model as a folder; a folder that exists there stays intact until the new one is complete.
///
/// # Errors
/// If the system refuses, with the file's name.
///
/// # Panics
/// If the model is not in this machine's memory: [`Gpt::on_host`] copies one of a device.
pub fn save_model(folder: &Path, gpt: &Gpt, tokenizer: Option<&dyn Tokenizer>) -> Result<(), CheckpointError> {
    replace_folder(folder, |folder| {
        write_settings(folder, &gpt.config, tokenizer)?;
        let entries = gpt.tensors().filter_map(|(name, tensor)| match (tensor.is_empty(), name.path()) {
            (false, path) => Some(Entry::of(key(&name), tensor, names::is_conv1d(path))),
            (true, QKV_BIAS) => Some(Entry::zeros(key(&name), 3 * gpt.config.n_embd)),
            (true, _) => None,
        });
        tensor_write::write(&folder.join(WEIGHTS), entries, &[("format", "pt")])
    })
}

/// Saves a model that stays in its file as [`save_model`] does, one tensor in memory at a time.
///
/// # Errors
/// If the system refuses, with the file's name; if a tensor cannot be read.
pub fn write_hugging_face(folder: &Path, model: &ModelFile) -> Result<(), CheckpointError> {
    let (config, tokenizer) = (model.config().clone(), model.tokenizer().cloned());
    replace_folder(folder, |folder| {
        write_settings(folder, &config, tokenizer.as_deref())?;
        let biases = (0..config.n_layer)
            .filter(|_| !config.qkv_bias)
            .map(|i| Entry::zeros(key(&ParamName::qkv_bias(i)), 3 * config.n_embd));
        let entries = shapes(&config).into_iter().map(|(name, shape)| {
            let dims = [shape[..shape.len() - 1].iter().product(), shape[shape.len() - 1]];
            Entry::read(key(&name), &shape, names::is_conv1d(name.path()), move || {
                let mut tensor = Alloc::on_host().zeros(dims);
                model.read(name, &mut tensor)?;
                Ok(tensor)
            })
        });
        tensor_write::write(&folder.join(WEIGHTS), entries.chain(biases), &[("format", "pt")])
    })
}

/// Hugging Face's key of a parameter.
fn key(name: &ParamName) -> String {
    Naming::HuggingFace.keys(&name.to_string()).remove(0)
}

/// What stands beside the weights.
pub(super) fn write_settings(
    folder: &Path,
    config: &ModelConfig,
    tokenizer: Option<&dyn Tokenizer>,
) -> Result<(), CheckpointError> {
    let end_of_text = tokenizer.and_then(Tokenizer::end_of_text);
    let hash = tokenizer.map(Tokenizer::hash);
    let json = config_json(config, end_of_text, hash.as_deref());
    let generation = json!({ "bos_token_id": end_of_text, "eos_token_id": end_of_text });
    write_new_file(&folder.join(CONFIG), format!("{json:#}\n").as_bytes())?;
    write_new_file(&folder.join(GENERATION), format!("{generation:#}\n").as_bytes())?;
    if let Some(tokenizer) = tokenizer {
        write_new_file(&folder.join(TOKENIZER), tokenizer.to_json().as_bytes())?;
    }
    Ok(())
}

fn config_json(config: &ModelConfig, end_of_text: Option<u32>, tokenizer_hash: Option<&str>) -> Value {
    json!({
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_positions": config.n_positions,
        "n_ctx": config.n_positions,
        "n_embd": config.n_embd,
        "n_head": config.n_head,
        "n_layer": config.n_layer,
        "n_inner": null,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "attn_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "initializer_range": 0.02,
        "tie_word_embeddings": config.tied_head,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "torch_dtype": "float32",
        "use_cache": true,
        "calame": {
            "version": env!("CARGO_PKG_VERSION"),
            "qkv_bias": config.qkv_bias,
            "init": config.init,
            "tokenizer_sha256": tokenizer_hash,
        },
    })
}

pub(super) fn read_config(path: &Path) -> Result<Value, CheckpointError> {
    read_json(path, "config.json")
}

pub(super) fn config_from_json(path: &Path, json: &Value) -> Result<ModelConfig, CheckpointError> {
    let wrong = |key: &'static str, found: &Value, expected: &str| CheckpointError::Config {
        path: path.to_owned(),
        key,
        found: if found.is_null() { "missing".to_owned() } else { found.to_string() },
        expected: expected.to_owned(),
    };
    let size = |key: &'static str| {
        json[key].as_u64().map(|n| n as usize).ok_or_else(|| wrong(key, &json[key], "a whole number"))
    };
    if json["model_type"] != "gpt2" {
        return Err(wrong("model_type", &json["model_type"], "\"gpt2\", the family that calame runs"));
    }
    let activation = &json["activation_function"];
    if !activation.is_null() && activation != "gelu_new" && activation != "gelu_pytorch_tanh" {
        return Err(wrong("activation_function", activation, "\"gelu_new\", GPT-2's"));
    }
    let epsilon = json["layer_norm_epsilon"].as_f64().unwrap_or(1e-5);
    if (epsilon - 1e-5).abs() > 1e-9 {
        return Err(wrong("layer_norm_epsilon", &json["layer_norm_epsilon"], "1e-5, GPT-2's"));
    }
    // Other members of the family compute something else under the same names.
    for (key, usual) in
        [("scale_attn_weights", true), ("scale_attn_by_inverse_layer_idx", false), ("add_cross_attention", false)]
    {
        if json[key].as_bool().unwrap_or(usual) != usual {
            return Err(wrong(key, &json[key], &format!("{usual}, as in OpenAI's GPT-2")));
        }
    }
    let calame = &json["calame"];
    let config = ModelConfig {
        vocab_size: size("vocab_size")?,
        n_positions: size("n_positions")?,
        n_embd: size("n_embd")?,
        n_head: size("n_head")?,
        n_layer: size("n_layer")?,
        dropout: json["resid_pdrop"].as_f64().unwrap_or(0.1) as f32,
        qkv_bias: calame["qkv_bias"].as_bool().unwrap_or(true),
        tied_head: json["tie_word_embeddings"].as_bool().unwrap_or(true),
        init: serde_json::from_value(calame["init"].clone()).unwrap_or(Init::Gpt2),
    };
    config.validate().map_err(|e| CheckpointError::Config {
        path: path.to_owned(),
        key: "the model's shape",
        found: e.to_string(),
        expected: "a shape that GPT-2 can have".to_owned(),
    })?;
    // After the shape is known to be possible: four times any n_embd need not fit a number.
    if let Some(inner) = json["n_inner"].as_u64()
        && inner != 4 * config.n_embd as u64
    {
        return Err(wrong("n_inner", &json["n_inner"], "null or four times n_embd"));
    }
    Ok(config)
}

pub(super) fn read_tokenizer_file(path: &Path) -> Result<Arc<dyn Tokenizer>, CheckpointError> {
    Ok(tokenizer::read_json(&read_text_at_most(path, MAX_JSON_BYTES)?, path)?)
}

pub(super) fn read_tokenizer(
    folder: &Path,
    json: &Value,
    config: &ModelConfig,
) -> Result<Option<Arc<dyn Tokenizer>>, CheckpointError> {
    let path = folder.join(TOKENIZER);
    if !path.is_file() {
        return Ok(None);
    }
    let tokenizer = read_tokenizer_file(&path)?;
    if let Some(expected) = json["calame"]["tokenizer_sha256"].as_str() {
        let found = tokenizer.hash();
        if found != expected {
            return Err(CheckpointError::ForeignTokenizer { path, expected: expected.to_owned(), found });
        }
    }
    if tokenizer.n_vocab() > config.vocab_size {
        return Err(CheckpointError::Config {
            path,
            key: "the number of tokens",
            found: tokenizer.n_vocab().to_string(),
            expected: format!("at most the model's vocab_size, {}", config.vocab_size),
        });
    }
    Ok(Some(tokenizer))
}
