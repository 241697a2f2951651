//! Reading a folder's configuration.

use std::path::Path;

use serde_json::Value;

use crate::formats::CheckpointError;
use crate::formats::json::read_json;
use crate::model::{Init, ModelConfig};

/// Reads a folder's `config.json` as a JSON object.
pub(in crate::formats) fn read_config(path: &Path) -> Result<Value, CheckpointError> {
    read_json(path, "config.json")
}

/// The model's shape; `path` names the file in errors.
pub(in crate::formats) fn config_from_json(path: &Path, json: &Value) -> Result<ModelConfig, CheckpointError> {
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
    config.validate().map_err(CheckpointError::impossible_shape(path, "the model's shape"))?;
    // After the shape is known to be possible: four times any n_embd need not fit a number.
    if let Some(inner) = json["n_inner"].as_u64()
        && inner != 4 * config.n_embd as u64
    {
        return Err(wrong("n_inner", &json["n_inner"], "null or four times n_embd"));
    }
    Ok(config)
}
