//! Converts a GPT-2's shape and tokenizer from and to GGUF metadata.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::header::{Value, kind};
use crate::formats::CheckpointError;
use crate::formats::source::StoredTensor;
use crate::model::{Activation, Init, ModelConfig};
use crate::quant::NumberFormat;
use crate::tokenizer::{Bpe, BpeLists, TextBounds, Tokenizer};

const ARCHITECTURE: &str = "general.architecture";
const GPT2: &str = "gpt2";
const N_FILES: &str = "split.count";
const N_POSITIONS: &str = "gpt2.context_length";
const N_EMBD: &str = "gpt2.embedding_length";
const N_LAYER: &str = "gpt2.block_count";
const N_INNER: &str = "gpt2.feed_forward_length";
const N_HEAD: &str = "gpt2.attention.head_count";
const N_KV_HEAD: &str = "gpt2.attention.head_count_kv";
const EPSILON: &str = "gpt2.attention.layer_norm_epsilon";
const VOCAB_SIZE: &str = "gpt2.vocab_size";
pub(super) const TOKENIZER_MODEL: &str = "tokenizer.ggml.model";
const TOKENIZER_PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TOKEN_TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const BOS: &str = "tokenizer.ggml.bos_token_id";
const EOS: &str = "tokenizer.ggml.eos_token_id";
/// The end of a turn in models for conversations; it ends a text too.
const EOT: &str = "tokenizer.ggml.eot_token_id";
/// The version of calame that wrote the file.
pub(super) const VERSION: &str = "calame.version";
/// Whether the model has a qkv bias, or any. The format requires the tensors; they are zero if this is false.
const QKV_BIAS: &str = "calame.qkv_bias";
const BIAS: &str = "calame.bias";
/// Whether the head is the token embedding, even if the file has an output.weight.
pub(super) const TIED_HEAD: &str = "calame.tied_head";
const DROPOUT: &str = "calame.dropout";
const INIT: &str = "calame.init";
const INIT_PYTORCH: &str = "pytorch";

/// Name of GPT-2's pre-tokenizer.
const PRE: &str = "gpt-2";
/// The tokenizer model of a file without a tokenizer.
const NO_TOKENIZER: &str = "none";

/// Token types in `tokenizer.ggml.token_type` (`enum llama_token_type` in llama.h).
mod token {
    pub const NORMAL: i64 = 1;
    /// A special token, such as end of text.
    pub const CONTROL: i64 = 3;
    /// A token that was added to the vocabulary and that texts contain as ordinary text.
    pub const USER_DEFINED: i64 = 4;
    /// An unused id, which no text is encoded to.
    pub const UNUSED: i64 = 5;
}

type Values = HashMap<String, Value>;

fn wrong(path: &Path, key: &'static str, found: Option<&Value>, expected: impl Into<String>) -> CheckpointError {
    let found = found.map_or_else(|| "missing".to_owned(), Value::to_string);
    CheckpointError::Config { path: path.to_owned(), key, found, expected: expected.into() }
}

/// Reads the model's shape from the metadata; the vocabulary size is that of the token embedding.
pub(super) fn config(path: &Path, values: &Values, tensors: &[StoredTensor]) -> Result<ModelConfig, CheckpointError> {
    let size = |key: &'static str| match values.get(key) {
        Some(Value::Int(n)) => usize::try_from(*n).ok(),
        _ => None,
    };
    let needed = |key| size(key).ok_or_else(|| wrong(path, key, values.get(key), "a whole number"));
    let n_inner = if values.contains_key(N_INNER) { Some(needed(N_INNER)?) } else { None };
    let marker = |key: &'static str| match values.get(key) {
        None => Ok(None),
        Some(Value::Bool(is)) => Ok(Some(*is)),
        found => Err(wrong(path, key, found, "true or false")),
    };
    check_family(path, values)?;
    let shape_of = |name: &str| tensors.iter().find(|t| t.name == name).map(|t| &t.shape[..]);
    let Some(&[vocab_size, _]) = shape_of("token_embd.weight") else {
        let problem = "token_embd.weight: expected a matrix, [vocabulary, channels]".to_owned();
        return Err(CheckpointError::Tensors { path: path.to_owned(), problems: vec![problem] });
    };
    let is_bias = |t: &StoredTensor| t.name.ends_with(".bias") && !t.name.ends_with(".attn_qkv.bias");
    let n_embd = needed(N_EMBD)?;
    let config = ModelConfig {
        vocab_size,
        n_positions: needed(N_POSITIONS)?,
        n_embd,
        n_head: needed(N_HEAD)?,
        n_layer: needed(N_LAYER)?,
        dropout: float(path, values, DROPOUT)?.unwrap_or(0.1),
        qkv_bias: marker(QKV_BIAS)?.unwrap_or_else(|| shape_of("blk.0.attn_qkv.bias").is_some()),
        // If it is not stated, a stored head is compared with the token embedding.
        tied_head: marker(TIED_HEAD)?.unwrap_or(true),
        init: init(path, values)?,
        bias: marker(BIAS)?.unwrap_or_else(|| tensors.iter().any(is_bias)),
        n_inner: n_inner.filter(|&n| n != n_embd.saturating_mul(4)),
        layer_norm_epsilon: float(path, values, EPSILON)?.unwrap_or(1e-5),
        // llama.cpp computes every GPT-2 with these.
        activation: Activation::GeluTanh,
        scale_attn_weights: true,
        scale_attn_by_inverse_layer_idx: false,
    };
    config.validate().map_err(CheckpointError::impossible_shape(path, "the model's shape"))?;
    for (key, expected) in [(N_KV_HEAD, config.n_head), (VOCAB_SIZE, vocab_size)] {
        if values.contains_key(key) && size(key) != Some(expected) {
            return Err(wrong(path, key, values.get(key), format!("{expected}, as the rest of the file has it")));
        }
    }
    Ok(config)
}

fn float(path: &Path, values: &Values, key: &'static str) -> Result<Option<f32>, CheckpointError> {
    match values.get(key) {
        None => Ok(None),
        Some(Value::Float(x)) => Ok(Some(*x as f32)),
        found => Err(wrong(path, key, found, "a number with a fraction")),
    }
}

fn init(path: &Path, values: &Values) -> Result<Init, CheckpointError> {
    match values.get(INIT) {
        None => Ok(Init::Gpt2),
        Some(Value::Text(init)) if init == INIT_PYTORCH => Ok(Init::Pytorch),
        Some(Value::Text(init)) if init == GPT2 => Ok(Init::Gpt2),
        found => Err(wrong(path, INIT, found, "\"gpt2\" or \"pytorch\"")),
    }
}

/// Checks that the file is a complete GPT-2.
fn check_family(path: &Path, values: &Values) -> Result<(), CheckpointError> {
    let architecture = values.get(ARCHITECTURE);
    if architecture != Some(&Value::Text(GPT2.to_owned())) {
        return Err(wrong(path, ARCHITECTURE, architecture, "\"gpt2\", the family that calame runs"));
    }
    match values.get(N_FILES).filter(|n| !matches!(n, Value::Int(0 | 1))) {
        None => Ok(()),
        n => Err(wrong(path, N_FILES, n, "1: join the files by llama.cpp's llama-gguf-split --merge")),
    }
}

/// The ids with which texts begin and end.
pub(super) fn bounds(values: &Values) -> TextBounds {
    let id = |key: &&str| match values.get(*key) {
        Some(Value::Int(id)) => u32::try_from(*id).ok(),
        _ => None,
    };
    let mut ends: Vec<u32> = [EOS, EOT].iter().filter_map(id).collect();
    ends.dedup();
    TextBounds { begin: id(&BOS), ends }
}

/// Reads the tokenizer if there is one, moving its lists out of the values.
pub(super) fn tokenizer(path: &Path, values: &mut Values) -> Result<Option<Arc<dyn Tokenizer>>, CheckpointError> {
    match values.get(TOKENIZER_MODEL) {
        None => return Ok(None),
        Some(Value::Text(model)) if model == NO_TOKENIZER || model == "no_vocab" => return Ok(None),
        Some(Value::Text(model)) if model == GPT2 => {}
        found => return Err(wrong(path, TOKENIZER_MODEL, found, "\"gpt2\", a byte-level BPE, or \"none\"")),
    }
    // Files from 2023 lack this key.
    match values.get(TOKENIZER_PRE) {
        None => {}
        Some(Value::Text(pre)) if pre == PRE => {}
        found => return Err(wrong(path, TOKENIZER_PRE, found, "\"gpt-2\": texts are cut into pieces as GPT-2 does")),
    }
    let mut tokens = take_texts(path, values, TOKENS)?;
    let merges = take_texts(path, values, MERGES)?;
    let mut types = match values.remove(TOKEN_TYPES) {
        None => types_by_ids(values, tokens.len()),
        Some(Value::Ints(types)) if types.len() == tokens.len() => types,
        found => return Err(wrong(path, TOKEN_TYPES, found.as_ref(), format!("{} whole numbers", tokens.len()))),
    };
    while types.last() == Some(&token::UNUSED) {
        types.pop();
        tokens.pop();
    }
    let ids_of =
        |is: &dyn Fn(i64) -> bool| (0..).zip(&types).filter(|(_, kind)| is(**kind)).map(|(id, _)| id).collect();
    let specials = ids_of(&|kind| kind != token::NORMAL && kind != token::USER_DEFINED);
    let added = ids_of(&|kind| kind == token::USER_DEFINED);
    Ok(Some(Bpe::from_lists(BpeLists { tokens, merges, specials, added }, path)?))
}

fn take_texts(path: &Path, values: &mut Values, key: &'static str) -> Result<Vec<String>, CheckpointError> {
    match values.remove(key) {
        Some(Value::Texts(texts)) => Ok(texts),
        found => Err(wrong(path, key, found.as_ref(), "an array of texts")),
    }
}

/// Token types for a file without them: only the tokens that begin and end texts are special.
fn types_by_ids(values: &Values, n_tokens: usize) -> Vec<i64> {
    let mut types = vec![token::NORMAL; n_tokens];
    for key in [BOS, EOS] {
        if let Some(Value::Int(id)) = values.get(key)
            && let Some(kind) = usize::try_from(*id).ok().and_then(|id| types.get_mut(id))
        {
            *kind = token::CONTROL;
        }
    }
    types
}

/// Serialized keys and values for a new file.
#[derive(Default)]
pub(super) struct Metadata {
    pub n_values: u64,
    pub bytes: Vec<u8>,
}

impl Metadata {
    /// The metadata that llama.cpp's converter writes for a GPT-2, and calame's own. `tokenizer` is a vocabulary with
    /// its end-of-text id; `name` is the model's name, `format` that of its matrices.
    pub fn of(
        config: &ModelConfig,
        tokenizer: Option<BpeLists>,
        bounds: &TextBounds,
        name: &str,
        format: NumberFormat,
    ) -> Metadata {
        let mut to = Metadata::default();
        to.text(ARCHITECTURE, GPT2);
        to.text("general.type", "model");
        to.text("general.name", name);
        to.size("general.file_type", file_type(format));
        to.size("general.quantization_version", 2);
        to.size(N_LAYER, config.n_layer);
        to.size(N_POSITIONS, config.n_positions);
        to.size(N_EMBD, config.n_embd);
        to.size(N_INNER, config.inner_size());
        to.size(N_HEAD, config.n_head);
        to.float(EPSILON, config.layer_norm_epsilon);
        to.size(VOCAB_SIZE, config.vocab_size);
        match tokenizer {
            Some(lists) => to.tokenizer(lists, config.vocab_size),
            None => to.text(TOKENIZER_MODEL, NO_TOKENIZER),
        }
        let end = bounds.ends.first().copied();
        for (key, id) in [(BOS, bounds.begin), (EOS, end), (EOT, bounds.ends.get(1).copied())] {
            if let Some(id) = id {
                to.size(key, id as usize);
            }
        }
        to.text(VERSION, env!("CARGO_PKG_VERSION"));
        to.flag(QKV_BIAS, config.qkv_bias);
        if !config.bias {
            to.flag(BIAS, false);
        }
        to.flag(TIED_HEAD, config.tied_head);
        to.float(DROPOUT, config.dropout);
        let init = match config.init {
            Init::Gpt2 => GPT2,
            Init::Pytorch => INIT_PYTORCH,
        };
        to.text(INIT, init);
        to
    }

    fn tokenizer(&mut self, lists: BpeLists, vocab_size: usize) {
        let BpeLists { mut tokens, merges, specials, added } = lists;
        let mut types = vec![token::NORMAL; tokens.len()];
        specials.iter().for_each(|&id| types[id as usize] = token::CONTROL);
        added.iter().for_each(|&id| types[id as usize] = token::USER_DEFINED);
        // llama.cpp requires a token for each row of the embedding.
        tokens.extend((tokens.len()..vocab_size).map(|id| format!("[PAD{id}]")));
        types.resize(tokens.len(), token::UNUSED);
        self.text(TOKENIZER_MODEL, GPT2);
        self.text(TOKENIZER_PRE, PRE);
        self.texts(TOKENS, &tokens);
        self.array(TOKEN_TYPES, kind::I32, types.len());
        types.iter().for_each(|&kind| self.bytes.extend((kind as i32).to_le_bytes()));
        self.texts(MERGES, &merges);
    }

    fn key(&mut self, key: &str, kind: u32) {
        self.n_values += 1;
        put_text(&mut self.bytes, key);
        self.bytes.extend(kind.to_le_bytes());
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key, kind::TEXT);
        put_text(&mut self.bytes, value);
    }

    /// Appends a size, which is always below 2³².
    fn size(&mut self, key: &str, value: usize) {
        self.key(key, kind::U32);
        self.bytes.extend((value as u32).to_le_bytes());
    }

    fn float(&mut self, key: &str, value: f32) {
        self.key(key, kind::F32);
        self.bytes.extend(value.to_le_bytes());
    }

    fn flag(&mut self, key: &str, value: bool) {
        self.key(key, kind::BOOL);
        self.bytes.push(value.into());
    }

    fn array(&mut self, key: &str, kind: u32, n: usize) {
        self.key(key, kind::ARRAY);
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend((n as u64).to_le_bytes());
    }

    fn texts(&mut self, key: &str, values: &[String]) {
        self.array(key, kind::TEXT, values.len());
        values.iter().for_each(|value| put_text(&mut self.bytes, value));
    }
}

/// llama.cpp's number of a file whose matrices have this format (`enum llama_ftype` of llama.h). Q3_K, Q4_K and Q5_K have
/// the numbers of their pure mixtures, `…_S`.
fn file_type(format: NumberFormat) -> usize {
    match format {
        NumberFormat::F32 => 0,
        NumberFormat::F16 => 1,
        NumberFormat::Q4_0 => 2,
        NumberFormat::Q4_1 => 3,
        NumberFormat::Q8_0 => 7,
        NumberFormat::Q5_0 => 8,
        NumberFormat::Q5_1 => 9,
        NumberFormat::Q2K => 10,
        NumberFormat::Q3K => 11,
        NumberFormat::Q4K => 14,
        NumberFormat::Q5K => 16,
        NumberFormat::Q6K => 18,
        NumberFormat::Iq4Nl => 25,
        NumberFormat::Iq4Xs => 30,
        NumberFormat::Bf16 => 32,
        NumberFormat::Tq1_0 => 36,
        NumberFormat::Tq2_0 => 37,
    }
}

/// Appends a string in GGUF's encoding.
pub(super) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.bytes());
}
