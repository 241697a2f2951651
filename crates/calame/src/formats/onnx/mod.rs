//! ONNX: the model as a graph of standard operators, with a cache of keys and values as inputs and outputs.
//!
//! `model.onnx` contains the graph and `model.onnx.data` the weights. A Protocol Buffers message is limited to 2 GiB,
//! so the weights of a large model need a separate file; every export has one, so that there is only one kind. Inputs
//! and outputs are those of Hugging Face's exports, so that programs that run those can run ours:
//!
//! | name | shape | type |
//! | --- | --- | --- |
//! | `input_ids` | [B, T] | i64 |
//! | `attention_mask` | [B, P + T]: 0 for padding, of past tokens too | i64 |
//! | `position_ids` | [B, T]; where there is no padding P, P + 1, … | i64 |
//! | `past_key_values.{i}.key`, `.value` | [B, NH, P, HS]; P is 0 at first | f32 |
//! | `logits` | [B, T, V] | f32 |
//! | `present.{i}.key`, `.value` | [B, NH, P + T, HS], the next call's past | f32 |
//!
//! Positions are an input, because with padding on the left they cannot be derived from P. The graph applies the causal
//! mask itself. Properties that ONNX has no field for are stored in the metadata under `calame.`.

mod file;
mod gpt2;
mod graph;
mod proto;
mod weights;

use std::path::Path;

use prost::Message;

use self::proto::{IR_VERSION, ModelProto, OPSET, OperatorSetIdProto, StringStringEntryProto};
use super::model_file::ModelFile;
use super::{CheckpointError, hugging_face};
use crate::files::{replace_folder, write_new_file};
use crate::model::{Init, ModelConfig};
use crate::tokenizer::Tokenizer;

pub use self::file::OnnxFile;
pub(super) use self::weights::DATA;

pub(super) const GRAPH: &str = "model.onnx";
/// Elements compared at a time: 4 MB per side.
const PIECE: usize = 1 << 20;

/// Number of nodes and weights that [`verify_onnx`] compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnnxCheck {
    /// Number of operators in the graph.
    pub n_nodes: usize,
    /// Number of parameters; a tied head counts once.
    pub n_parameters: usize,
}

/// Writes a model as ONNX, weight by weight: `model.onnx`, `model.onnx.data`, and the config.json and tokenizer files
/// that runtimes with a tokenizer expect.
///
/// At most one parameter is in memory at a time, or two copies of a linear one. An existing folder stays intact until
/// the new one is complete.
///
/// # Errors
/// Returns the system's error with the file's name, or what is wrong with the model's tensors.
pub fn write_onnx(folder: &Path, model: &ModelFile) -> Result<(), CheckpointError> {
    model.check_absent_biases()?;
    let (config, tokenizer) = (model.config().clone(), model.tokenizer().cloned());
    replace_folder(folder, |folder| {
        hugging_face::write_settings(folder, &config, tokenizer.as_deref(), model.bounds())?;

        weights::write(&folder.join(DATA), &weights::layout(&config), model)?;
        let graph = model_proto(&config, tokenizer.as_deref()).encode_to_vec();
        Ok(write_new_file(&folder.join(GRAPH), &graph)?)
    })
}

/// Reads an export back and checks that the graph matches the model and that every weight is equal bit for bit.
///
/// The graph is not run: it depends only on the model's shape. Two programs in `golden/` run it with onnxruntime and
/// tract and compare the results with the model.
///
/// # Errors
/// Returns the first difference, with the file's name; otherwise as [`OnnxFile::open`] and [`ModelFile::read`].
pub fn verify_onnx(folder: &Path, model: &ModelFile) -> Result<OnnxCheck, CheckpointError> {
    let path = folder.join(GRAPH);
    let file = OnnxFile::open(&path)?;
    let config = model.config().clone();
    let expected = model_proto(&config, model.tokenizer().map(|t| &**t));
    let found = file.model();
    if (&found.graph, &found.metadata_props) != (&expected.graph, &expected.metadata_props) {
        return Err(CheckpointError::damaged(&path, "its graph is not that of the model"));
    }
    // The graph equals the expected one, so its initializers are in this order.
    for (index, weight) in weights::layout(&config).iter().enumerate() {
        let tensor = weight.read(model)?;
        let mut piece = vec![0.0; PIECE.min(tensor.len())];
        for (i, expected) in tensor.host().chunks(PIECE).enumerate() {
            let piece = &mut piece[..expected.len()];
            file.read(index, i * PIECE, piece)?;
            if piece.iter().zip(expected).any(|(a, b)| a.to_bits() != b.to_bits()) {
                return Err(CheckpointError::damaged(
                    &folder.join(DATA),
                    format!("{} is not the model's", weight.name),
                ));
            }
        }
    }
    Ok(OnnxCheck { n_nodes: expected.graph.map_or(0, |graph| graph.node.len()), n_parameters: config.n_parameters() })
}

/// The message of the whole graph file.
fn model_proto(config: &ModelConfig, tokenizer: Option<&dyn Tokenizer>) -> ModelProto {
    let initializers = weights::layout(config).iter().map(weights::Weight::initializer).collect();
    ModelProto {
        ir_version: IR_VERSION,
        producer_name: "calame".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(gpt2::graph(config, initializers)),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: metadata(config, tokenizer),
    }
}

/// Properties that neither the graph nor the shapes of its weights contain.
fn metadata(config: &ModelConfig, tokenizer: Option<&dyn Tokenizer>) -> Vec<StringStringEntryProto> {
    let init = match config.init {
        Init::Pytorch => "pytorch",
        Init::Gpt2 => "gpt2",
    };
    let mut entries = vec![
        ("calame.n_head", config.n_head.to_string()),
        ("calame.qkv_bias", config.has_qkv_bias().to_string()),
        ("calame.tied_head", config.tied_head.to_string()),
        ("calame.dropout", config.dropout.to_string()),
        ("calame.init", init.to_owned()),
    ];
    entries.extend(tokenizer.map(|tokenizer| ("calame.tokenizer_sha256", tokenizer.hash())));
    entries.into_iter().map(|(key, value)| StringStringEntryProto { key: key.to_owned(), value }).collect()
}
