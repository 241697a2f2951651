//! Determines the shape of a model from its tensors, if the file does not state it.

use std::path::Path;

use super::CheckpointError;
use super::names::{Meaning, Naming};
use super::source::StoredTensor;
use super::torch::PlainValue;
use crate::model::{Init, ModelConfig};

/// Names that configurations have for the number of heads.
pub(super) const HEADS: [&str; 4] = ["n_head", "n_heads", "num_heads", "num_attention_heads"];

/// A shape, and how the file stores it.
pub(super) struct Guess {
    pub config: ModelConfig,
    /// Whether linear weights are stored as [in, out].
    pub conv1d: bool,
}

/// Determines the shape. `shares` says whether two tensors share memory; `n_head` is taken from a config.json next to
/// the file or from the caller, `model_args` from the file itself.
///
/// # Errors
/// If these are not the tensors of a GPT-2, or nothing states the number of heads.
pub(super) fn guess(
    path: &Path,
    tensors: &[StoredTensor],
    shares: impl Fn(usize, usize) -> bool,
    n_head: Option<usize>,
    model_args: Option<&PlainValue>,
) -> Result<Guess, CheckpointError> {
    let naming = Naming::of(tensors.iter().map(|t| t.name.as_str()));
    let meaning = |t: &StoredTensor| if t.is_empty() { Meaning::Nothing } else { naming.meaning(&t.name) };
    let meanings: Vec<Meaning> = tensors.iter().map(meaning).collect();
    let find =
        |name: &str| meanings.iter().position(|m| matches!(m, Meaning::Whole(n) | Meaning::Third(n, 0) if n == name));
    let matrix = |name: &str| match find(name).map(|i| (i, &tensors[i].shape[..])) {
        Some((i, &[rows, cols])) => Ok((i, rows, cols)),
        found => {
            let shape = found.map(|(_, shape)| shape.to_vec());
            Err(unknown(path, naming, name, shape.as_deref()))
        }
    };
    let (wte, vocab_size, n_embd) = matrix("wte.weight")?;
    let (_, n_positions, _) = matrix("wpe.weight")?;
    let (qkv, rows, cols) = matrix("h.0.attn.c_attn.weight")?;
    let n_layer = meanings.iter().filter_map(block_of).max().map_or(0, |last| last + 1);
    let arg = |key: &str| match model_args.and_then(|args| args.get(key)) {
        Some(PlainValue::Int(n)) => usize::try_from(*n).ok(),
        _ => None,
    };

    let stated = HEADS.iter().find_map(|key| arg(key));
    let n_head = stated.or(n_head).ok_or_else(|| CheckpointError::UnknownHeads { path: path.to_owned(), n_embd })?;
    let dropout = match model_args.and_then(|args| args.get("dropout").or_else(|| args.get("drop_rate"))) {
        Some(PlainValue::Float(p)) => *p as f32,
        _ => 0.1,
    };
    let config = ModelConfig {
        vocab_size,
        n_positions,
        n_embd,
        n_head,
        n_layer,
        dropout,
        qkv_bias: find("h.0.attn.c_attn.bias").is_some(),
        tied_head: find("lm_head.weight").is_none_or(|head| shares(head, wte)),
        init: if naming == Naming::Book { Init::Pytorch } else { Init::Gpt2 },
    };
    config.validate().map_err(CheckpointError::impossible_shape(path, "the shape of its tensors"))?;
    // Separate queries, keys and values are always [out, in].
    let whole = matches!(meanings[qkv], Meaning::Whole(_));
    Ok(Guess { config, conv1d: whole && cols == 3 * rows })
}

/// The index of the block that a tensor belongs to.
fn block_of(meaning: &Meaning) -> Option<usize> {
    let (Meaning::Whole(name) | Meaning::Third(name, _)) = meaning else { return None };
    name.strip_prefix("h.")?.split_once('.')?.0.parse().ok()
}

fn unknown(path: &Path, naming: Naming, name: &str, found: Option<&[usize]>) -> CheckpointError {
    let keys = naming.keys(name).join(", ");
    let problem = match found {
        None => format!("missing: {name} (as {keys}): these are not the tensors of a GPT-2"),
        Some(shape) => format!("misshapen: {name} is {shape:?}, expected a matrix"),
    };
    CheckpointError::Tensors { path: path.to_owned(), problems: vec![problem] }
}
