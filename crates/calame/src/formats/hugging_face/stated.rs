//! What a config.json states of a model: transformers' `GPT2Config`, with its aliases.
//!
//! Sizes that it does not state follow from the tensors. Settings that it does not state have the values of `GPT2Config`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::formats::CheckpointError;
use crate::model::{Activation, Init};

/// What is stated of a model apart from its tensors; `None` where nothing is.
#[derive(Debug)]
pub(in crate::formats) struct Stated {
    /// The configuration, named in errors; `None` without one.
    pub path: Option<PathBuf>,
    pub vocab_size: Option<usize>,
    pub n_positions: Option<usize>,
    pub n_embd: Option<usize>,
    pub n_head: Option<usize>,
    pub n_layer: Option<usize>,
    pub n_inner: Option<usize>,
    pub dropout: Option<f32>,
    pub tied_head: Option<bool>,
    /// Whether a tied head is stated, or follows from the rules of a GPT-2 that the file names.
    pub says_tied: bool,
    pub bias: Option<bool>,
    pub qkv_bias: Option<bool>,
    pub init: Option<Init>,
    pub activation: Activation,
    pub layer_norm_epsilon: f32,
    pub scale_attn_weights: bool,
    pub scale_attn_by_inverse_layer_idx: bool,
    /// One sentence for each property that was assumed.
    pub notes: Vec<String>,
}

impl Default for Stated {
    fn default() -> Stated {
        Stated {
            path: None,
            vocab_size: None,
            n_positions: None,
            n_embd: None,
            n_head: None,
            n_layer: None,
            n_inner: None,
            dropout: None,
            tied_head: None,
            says_tied: false,
            bias: None,
            qkv_bias: None,
            init: None,
            activation: Activation::GeluTanh,
            layer_norm_epsilon: 1e-5,
            scale_attn_weights: true,
            scale_attn_by_inverse_layer_idx: false,
            notes: Vec::new(),
        }
    }
}

/// Keys of which a configuration of any model has at least one.
const KEYS_OF_MODELS: [&str; 6] =
    ["model_type", "architectures", "n_embd", "hidden_size", "n_head", "num_attention_heads"];
/// The dropouts of `GPT2Config`; the first is the one that calame trains with.
const DROPOUTS: [&str; 3] = ["resid_pdrop", "embd_pdrop", "attn_pdrop"];

impl Stated {
    /// Whether a JSON file describes a model at all.
    pub fn is_of_a_model(json: &Value) -> bool {
        KEYS_OF_MODELS.iter().any(|key| !json[key].is_null())
    }

    /// Reads a config.json; `path` names it in errors.
    ///
    /// # Errors
    /// If it describes a model of another family, or a value is of the wrong kind or one that calame cannot compute with.
    pub fn read(path: &Path, json: &Value) -> Result<Stated, CheckpointError> {
        let keys = Keys { path, json };
        let mut notes = Vec::new();
        let names_gpt2 = keys.check_family()?;
        // GPT2Config ignores the names that other families have for its settings.
        let also = |key: &'static str, other: &'static str| if names_gpt2 { [key, key] } else { [key, other] };
        let dropout = keys.dropout(&mut notes)?;
        let tied_head = keys.flag("tie_word_embeddings")?;
        let calame = Keys { path, json: &json["calame"] };
        Ok(Stated {
            path: Some(path.to_owned()),
            vocab_size: keys.size(&["vocab_size"])?,
            // Older files have n_ctx too, the context that the model was trained with.
            n_positions: match keys.size(&["n_positions", "max_position_embeddings"])? {
                None => keys.size(&["n_ctx"])?,
                stated => stated,
            },
            n_embd: keys.size(&["n_embd", "hidden_size"])?,
            n_head: keys.size(&["n_head", "num_attention_heads"])?,
            n_layer: keys.size(&["n_layer", "num_hidden_layers"])?,
            n_inner: keys.size(&also("n_inner", "intermediate_size"))?,
            dropout,
            tied_head,
            says_tied: tied_head.unwrap_or(names_gpt2),
            bias: calame.flag("bias")?,
            qkv_bias: calame.flag("qkv_bias")?,
            init: serde_json::from_value(calame.json["init"].clone()).ok(),
            activation: keys.activation(&also("activation_function", "hidden_act"))?,
            layer_norm_epsilon: keys.number(&also("layer_norm_epsilon", "layer_norm_eps"))?.unwrap_or(1e-5),
            scale_attn_weights: keys.flag("scale_attn_weights")?.unwrap_or(true),
            scale_attn_by_inverse_layer_idx: keys.flag("scale_attn_by_inverse_layer_idx")?.unwrap_or(false),
            notes,
        })
    }
}

/// The keys of a JSON object, with the path for errors.
struct Keys<'a> {
    path: &'a Path,
    json: &'a Value,
}

impl Keys<'_> {
    fn wrong(&self, key: &'static str, expected: impl Into<String>) -> CheckpointError {
        let (path, found) = (self.path.to_owned(), self.json[key].to_string());
        CheckpointError::Config { path, key, found, expected: expected.into() }
    }

    /// Whether the file names GPT-2. One that names no family may be of one: its tensors decide.
    fn check_family(&self) -> Result<bool, CheckpointError> {
        // An encoder and a decoder together compute something else under the same names.
        if self.flag("add_cross_attention")? == Some(true) {
            return Err(self.wrong("add_cross_attention", "false, as in a language model"));
        }
        if self.json["model_type"] == "gpt2" {
            return Ok(true);
        }
        if !self.json["model_type"].is_null() {
            return Err(self.wrong("model_type", "\"gpt2\", the family that calame runs"));
        }
        let names = self.json["architectures"].as_array().map_or(&[][..], Vec::as_slice);
        if !names.iter().all(|name| name.as_str().is_some_and(|name| name.starts_with("GPT2"))) {
            return Err(self.wrong("architectures", "[\"GPT2LMHeadModel\"], the family that calame runs"));
        }
        Ok(!names.is_empty())
    }

    /// The value of the first key that is there; all keys that are must agree.
    fn value<T: PartialEq>(
        &self,
        keys: &[&'static str],
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, CheckpointError> {
        let mut value = None;
        for key in keys.iter().copied().filter(|key| !self.json[key].is_null()) {
            let found = read(&self.json[key]).ok_or_else(|| self.wrong(key, expected))?;
            if value.as_ref().is_some_and(|value| *value != found) {
                return Err(self.wrong(key, format!("{}, as {} says", self.json[keys[0]], keys[0])));
            }
            value = Some(found);
        }
        Ok(value)
    }

    fn size(&self, keys: &[&'static str]) -> Result<Option<usize>, CheckpointError> {
        self.value(keys, "a whole number", |value| usize::try_from(value.as_u64()?).ok())
    }

    fn flag(&self, key: &'static str) -> Result<Option<bool>, CheckpointError> {
        self.value(&[key], "true or false", Value::as_bool)
    }

    fn number(&self, keys: &[&'static str]) -> Result<Option<f32>, CheckpointError> {
        self.value(keys, "a number", |value| Some(value.as_f64()? as f32))
    }

    fn activation(&self, keys: &[&'static str]) -> Result<Activation, CheckpointError> {
        let known = "gelu_new, gelu, gelu_fast, gelu_pytorch_tanh or relu";
        Ok(self.value(keys, known, |value| value.as_str()?.parse().ok())?.unwrap_or_default())
    }

    /// The dropout of the residual stream. The others are noted if they differ.
    fn dropout(&self, notes: &mut Vec<String>) -> Result<Option<f32>, CheckpointError> {
        let mut stated = Vec::new();
        for key in DROPOUTS {
            stated.extend(self.number(&[key])?.map(|p| (key, p)));
        }
        let Some(&(first, dropout)) = stated.first() else { return Ok(None) };
        let others: Vec<String> =
            stated.iter().filter(|(_, p)| *p != dropout).map(|(key, p)| format!("{key} = {p}")).collect();
        if !others.is_empty() {
            let others = others.join(" and ");
            notes.push(format!(
                "training takes {first} = {dropout} for every dropout; the model's own {others} differs"
            ));
        }
        Ok(Some(dropout))
    }
}
