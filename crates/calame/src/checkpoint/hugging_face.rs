//! A saved model: a folder in Hugging Face's layout that `transformers` loads as `GPT2LMHeadModel`.
//!
//! `config.json`, `model.safetensors`, `tokenizer.json`, `generation_config.json`. What calame alone knows stands in
//! config.json under `calame`: whether there is a qkv bias (a model without one is written with zeros, because the
//! format has no way to leave it out), and the tokenizer's hash.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use super::tensor_file::{self, Entry, TensorFile};
use super::{CheckpointError, atomic, names};
use crate::model::params::{ParamName, shapes};
use crate::model::{Gpt, Init, ModelConfig};
use crate::tensor::Tensor;
use crate::tokenizer::{self, Tokenizer};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const TOKENIZER: &str = "tokenizer.json";
const GENERATION: &str = "generation_config.json";
/// No JSON file of a model is larger (a tokenizer of 250,000 words has some 20 MB).
const MAX_JSON_BYTES: u64 = 256 << 20;
/// Half of a block's tensors; a file with fewer for each block is of another model, and its lacks are not listed.
const FEWEST_BLOCK_TENSORS: usize = 6;

/// A model with the tokenizer that it was trained with.
pub struct SavedModel {
    /// The weights.
    pub gpt: Gpt,
    /// Absent where the folder has none.
    pub tokenizer: Option<Arc<dyn Tokenizer>>,
    /// Where it was read from.
    pub folder: PathBuf,
}

/// Writes a model; what stood at `folder` stands until the new one is complete.
///
/// # Errors
/// What the system says, with the file's name.
pub fn save_model(folder: &Path, gpt: &Gpt, tokenizer: Option<&dyn Tokenizer>) -> Result<(), CheckpointError> {
    atomic::replace_folder(folder, |folder| {
        let end_of_text = tokenizer.and_then(Tokenizer::end_of_text);
        let hash = tokenizer.map(Tokenizer::hash);
        let config = config_json(&gpt.config, end_of_text, hash.as_deref());
        let generation = json!({ "bos_token_id": end_of_text, "eos_token_id": end_of_text });
        atomic::write(&folder.join(CONFIG), &format!("{config:#}\n"))?;
        atomic::write(&folder.join(GENERATION), &format!("{generation:#}\n"))?;
        if let Some(tokenizer) = tokenizer {
            atomic::write(&folder.join(TOKENIZER), &tokenizer.to_json())?;
        }
        let entries = gpt.tensors().filter_map(|(name, tensor)| {
            let key = names::to_hugging_face(&name.to_string());
            match (tensor.is_empty(), name.path) {
                (false, path) => Some((key, Entry::of(tensor, names::is_conv1d(path)))),
                (true, "attn.c_attn.bias") => Some((key, Entry::zeros(3 * gpt.config.n_embd))),
                (true, _) => None,
            }
        });
        tensor_file::write(&folder.join(WEIGHTS), entries, &[("format", "pt")])
    })
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

/// The folder of a saved model that a path means: the path itself, or `model` in a run's folder.
///
/// # Errors
/// If neither holds a model.
pub fn find_model(path: &Path) -> Result<PathBuf, CheckpointError> {
    for folder in [path.to_owned(), path.join("model")] {
        if folder.join(CONFIG).is_file() {
            return Ok(folder);
        }
    }
    let remedy = if !path.exists() {
        "there is no such file or folder".to_owned()
    } else if fs::read_dir(path.join("checkpoints")).is_ok_and(|mut entries| entries.next().is_some()) {
        format!("its training was not finished: `calame train --resume {}` does that", path.display())
    } else {
        "give a run's folder, or a folder with these files".to_owned()
    };
    Err(CheckpointError::NotAModel {
        path: path.to_owned(),
        expected: "config.json and model.safetensors in it or in its subfolder model",
        remedy,
    })
}

/// Reads a model and its tokenizer.
///
/// Everything that the files claim is compared with their sizes before memory is taken for it.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn load_model(path: &Path) -> Result<SavedModel, CheckpointError> {
    let folder = find_model(path)?;
    let config_path = folder.join(CONFIG);
    let json = read_json(&config_path)?;
    let config = config_from_json(&config_path, &json)?;
    let gpt = read_weights(&folder.join(WEIGHTS), &config)?;
    let tokenizer = read_tokenizer(&folder, &json, &config)?;
    Ok(SavedModel { gpt, tokenizer, folder })
}

/// The shape of a saved model, without its weights.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn read_config(path: &Path) -> Result<ModelConfig, CheckpointError> {
    let config_path = find_model(path)?.join(CONFIG);
    config_from_json(&config_path, &read_json(&config_path)?)
}

fn read_text(path: &Path) -> Result<String, CheckpointError> {
    let bytes = fs::metadata(path).map_err(CheckpointError::io("read", path))?.len();
    if bytes > MAX_JSON_BYTES {
        return Err(CheckpointError::damaged(path, format!("{bytes} bytes of JSON")));
    }
    fs::read_to_string(path).map_err(CheckpointError::io("read", path))
}

fn read_json(path: &Path) -> Result<Value, CheckpointError> {
    let text = read_text(path)?;
    serde_json::from_str(&text).map_err(|source| CheckpointError::Json {
        path: path.to_owned(),
        what: "config.json",
        source,
    })
}

fn config_from_json(path: &Path, json: &Value) -> Result<ModelConfig, CheckpointError> {
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

fn read_weights(path: &Path, config: &ModelConfig) -> Result<Gpt, CheckpointError> {
    let mut file = TensorFile::open(path)?;
    // Compared first: a config that claims a million blocks must not cost the memory of them, or of their names.
    let (n_parameters, n_tensors) = (config.n_parameters(), file.tensors().len());
    if n_parameters as u64 > file.file_bytes || config.n_layer > n_tensors / FEWEST_BLOCK_TENSORS {
        let problem = format!(
            "config.json speaks of {n_parameters} parameters in {} blocks, the file has {} bytes in {n_tensors} tensors",
            config.n_layer, file.file_bytes
        );
        return Err(CheckpointError::Tensors { path: path.to_owned(), problems: vec![problem] });
    }
    let keys = match_tensors(path, &file, config)?;
    if !config.qkv_bias {
        check_absent_biases(path, &mut file, config)?;
    }
    let mut gpt = Gpt::zeros(config);
    for (name, tensor) in gpt.tensors_mut().filter(|(_, t)| !t.is_empty()) {
        file.read(&keys[&name], tensor, names::is_conv1d(name.path))?;
        if tensor.as_slice().iter().any(|x| !x.is_finite()) {
            return Err(CheckpointError::NotFinite { path: path.to_owned(), name: name.to_string() });
        }
    }
    Ok(gpt)
}

/// What stands in the place of qkv biases in a model without them is zero; if another program trained it on, it has them now.
fn check_absent_biases(path: &Path, file: &mut TensorFile, config: &ModelConfig) -> Result<(), CheckpointError> {
    let mut keys: Vec<String> = file.tensors().into_keys().filter(|key| key.ends_with(".attn.c_attn.bias")).collect();
    keys.sort();
    let mut bias = Tensor::zeros([3 * config.n_embd]);
    for key in keys {
        file.read(&key, &mut bias, false)?;
        if bias.as_slice().iter().any(|x| *x != 0.0) {
            let problem = format!("{key} is not zero, config.json says qkv_bias = false under calame: make it true");
            return Err(CheckpointError::Tensors { path: path.to_owned(), problems: vec![problem] });
        }
    }
    Ok(())
}

/// The file's key of each parameter, or everything that does not fit.
fn match_tensors(
    path: &Path,
    file: &TensorFile,
    config: &ModelConfig,
) -> Result<HashMap<ParamName, String>, CheckpointError> {
    let (mut found, mut keys, mut problems) = (HashMap::new(), HashMap::new(), Vec::new());
    let mut tensors: Vec<_> = file.tensors().into_iter().collect();
    tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (key, info) in tensors {
        let Some(name) = names::from_hugging_face(&key) else { continue };
        if let Some((other, _)) = found.insert(name.to_owned(), (key.clone(), info)) {
            problems.push(format!("twice: {name}, as {other} and {key}"));
        }
    }
    for (name, mut shape) in shapes(config) {
        if names::is_conv1d(name.path) {
            shape.reverse();
        }
        match found.remove(&name.to_string()) {
            None => problems.push(format!("missing: {name} {shape:?}")),
            Some((key, info)) if info.shape != shape => {
                problems.push(format!("misshapen: {key} is {:?}, expected {shape:?}", info.shape));
            }
            Some((key, info)) if info.dtype != Dtype::F32 => {
                problems.push(format!("{key} is {:?}: only F32 is read", info.dtype));
            }
            Some((key, _)) => {
                keys.insert(name, key);
            }
        }
    }
    // A model without qkv bias is written with zeros in its place; a tied head may be written twice.
    let excused = |name: &String| {
        (!config.qkv_bias && name.ends_with(".attn.c_attn.bias")) || (config.tied_head && name == "lm_head.weight")
    };
    let mut unexpected: Vec<String> = found.into_iter().filter(|(n, _)| !excused(n)).map(|(_, (k, _))| k).collect();
    unexpected.sort();
    problems.extend(unexpected.into_iter().map(|key| format!("unexpected: {key}")));
    if problems.is_empty() { Ok(keys) } else { Err(CheckpointError::Tensors { path: path.to_owned(), problems }) }
}

fn read_tokenizer(
    folder: &Path,
    json: &Value,
    config: &ModelConfig,
) -> Result<Option<Arc<dyn Tokenizer>>, CheckpointError> {
    let path = folder.join(TOKENIZER);
    if !path.is_file() {
        return Ok(None);
    }
    let tokenizer = tokenizer::read_json(&read_text(&path)?, &path)?;
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
