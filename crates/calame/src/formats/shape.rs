//! Determines the shape of a model from what is stated of it and, where nothing is, from its tensors.

use std::path::Path;

use super::CheckpointError;
use super::hugging_face::Stated;
use super::names::{Meaning, Naming};
use super::source::StoredTensor;
use super::torch::PlainValue;
use crate::model::{Init, ModelConfig};

/// Names that scripts have for the number of heads.
const HEADS: [&str; 4] = ["n_head", "n_heads", "num_heads", "num_attention_heads"];

/// A shape and the assumptions behind it.
pub(super) struct Shape {
    pub config: ModelConfig,
    /// Whether linear weights are stored as [in, out]; `None` if the tensors do not tell.
    pub conv1d: Option<bool>,
    pub notes: Vec<String>,
}

/// Determines the shape of the model in `path`. A head that the file stores counts as tied until it has been compared with
/// the token embedding, unless it is stated to be the model's own.
pub(super) fn shape_of(path: &Path, tensors: &[StoredTensor], stated: Stated) -> Result<Shape, CheckpointError> {
    let evident = Evident::of(path, tensors);
    let size = |stated: Option<usize>, name: &str, axis: usize| match stated {
        Some(n) => Ok(n),
        None => evident.matrix(name).map(|dims| dims[axis]),
    };
    let (vocab_size, n_embd) = (size(stated.vocab_size, "wte.weight", 0)?, size(stated.n_embd, "wte.weight", 1)?);
    let n_positions = size(stated.n_positions, "wpe.weight", 0)?;
    let n_layer = match stated.n_layer {
        Some(n) => n,
        None => evident.matrix("h.0.attn.c_attn.weight").map(|_| evident.n_layer())?,
    };
    let notes = stated.notes;
    let n_head = match (stated.n_head, &stated.path) {
        (Some(n), _) => n,
        (None, Some(path)) => {
            let (path, found) = (path.clone(), "missing".to_owned());
            let expected = "a whole number (or give it with --n-head N)".to_owned();
            return Err(CheckpointError::Config { path, key: "n_head", found, expected });
        }
        (None, None) => return Err(CheckpointError::UnknownHeads { path: path.to_owned(), n_embd }),
    };
    let n_inner = stated.n_inner.or_else(|| evident.n_inner(n_embd));
    let config = ModelConfig {
        vocab_size,
        n_positions,
        n_embd,
        n_head,
        n_layer,
        dropout: stated.dropout.unwrap_or(0.1),
        qkv_bias: stated.qkv_bias.unwrap_or_else(|| evident.has("h.0.attn.c_attn.bias")),
        tied_head: stated.tied_head.unwrap_or(true),
        init: stated.init.unwrap_or(if evident.naming == Naming::Book { Init::Pytorch } else { Init::Gpt2 }),
        bias: stated.bias.unwrap_or_else(|| evident.has_biases()),
        n_inner: n_inner.filter(|&n| n != n_embd.saturating_mul(4)),
        activation: stated.activation,
        layer_norm_epsilon: stated.layer_norm_epsilon,
        scale_attn_weights: stated.scale_attn_weights,
        scale_attn_by_inverse_layer_idx: stated.scale_attn_by_inverse_layer_idx,
    };
    let (file, what) = match &stated.path {
        Some(path) => (&**path, "the model's shape"),
        None => (path, "the shape of its tensors"),
    };
    config.validate().map_err(CheckpointError::impossible_shape(file, what))?;
    Ok(Shape { config, conv1d: evident.is_conv1d(), notes })
}

/// Adds what a PyTorch file states beside its tensors, such as nanoGPT's `model_args`.
///
/// # Errors
/// If a config.json next to it states another number of heads.
pub(super) fn add_args(path: &Path, args: &PlainValue, stated: &mut Stated) -> Result<(), CheckpointError> {
    let arg = |key: &str| match args.get(key) {
        Some(PlainValue::Int(n)) => usize::try_from(*n).ok(),
        _ => None,
    };
    if let Some(n_head) = HEADS.iter().find_map(|key| arg(key)) {
        if let (Some(found), Some(config)) = (stated.n_head, &stated.path)
            && found != n_head
        {
            return Err(CheckpointError::Config {
                path: config.clone(),
                key: "n_head",
                found: found.to_string(),
                expected: format!("{n_head}, as {} itself says", path.file_name().unwrap_or_default().display()),
            });
        }
        stated.n_head = Some(n_head);
    }
    if let Some(PlainValue::Float(p)) = args.get("dropout").or_else(|| args.get("drop_rate")) {
        stated.dropout = Some(*p as f32);
    }
    Ok(())
}

/// Compares the sizes that a config.json next to a file states with those of the file's tensors.
///
/// # Errors
/// If they differ: the configuration belongs to another file.
pub(super) fn check_beside(path: &Path, tensors: &[StoredTensor], stated: &Stated) -> Result<(), CheckpointError> {
    let evident = Evident::of(path, tensors);
    let Some(config) = &stated.path else { return Ok(()) };
    for (key, size, name, axis) in [
        ("vocab_size", stated.vocab_size, "wte.weight", 0),
        ("n_embd", stated.n_embd, "wte.weight", 1),
        ("n_positions", stated.n_positions, "wpe.weight", 0),
    ] {
        if let (Some(size), Ok(dims)) = (size, evident.matrix(name))
            && size != dims[axis]
        {
            let file = path.file_name().unwrap_or_default().display();
            return Err(CheckpointError::Config {
                path: config.clone(),
                key,
                found: size.to_string(),
                expected: format!(
                    "{}, that of {name} in {file}; if the configuration is not that of {file}, move one of them to \
                     another folder",
                    dims[axis]
                ),
            });
        }
    }
    Ok(())
}

/// What the tensors of a file tell.
struct Evident<'a> {
    path: &'a Path,
    tensors: &'a [StoredTensor],
    naming: Naming,
    meanings: Vec<Meaning>,
}

impl<'a> Evident<'a> {
    fn of(path: &'a Path, tensors: &'a [StoredTensor]) -> Evident<'a> {
        let naming = Naming::of(tensors.iter().map(|t| t.name.as_str()));
        let meaning = |t: &StoredTensor| if t.is_empty() { Meaning::Nothing } else { naming.meaning(&t.name) };
        let meanings = tensors.iter().map(meaning).collect();
        Evident { path, tensors, naming, meanings }
    }

    /// The tensor of one of our parameters, or of its queries.
    fn find(&self, name: &str) -> Option<usize> {
        self.meanings.iter().position(|m| matches!(m, Meaning::Whole(n) | Meaning::Third(n, 0) if n == name))
    }

    fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The dimensions of a matrix.
    fn matrix(&self, name: &str) -> Result<[usize; 2], CheckpointError> {
        match self.find(name).map(|i| &self.tensors[i].shape[..]) {
            Some(&[rows, cols]) => Ok([rows, cols]),
            found => Err(self.unknown(name, found)),
        }
    }

    fn unknown(&self, name: &str, found: Option<&[usize]>) -> CheckpointError {
        let keys = self.naming.keys(name).join(", ");
        let problem = match found {
            None => format!("missing: {name} (as {keys}): these are not the tensors of a GPT-2"),
            Some(shape) => format!("misshapen: {name} is {shape:?}, expected a matrix"),
        };
        CheckpointError::Tensors { path: self.path.to_owned(), problems: vec![problem] }
    }

    fn n_layer(&self) -> usize {
        self.meanings.iter().filter_map(block_of).max().map_or(0, |last| last.saturating_add(1))
    }

    /// Width of the MLP, whichever way its matrix is stored.
    fn n_inner(&self, n_embd: usize) -> Option<usize> {
        match self.matrix("h.0.mlp.c_fc.weight").ok()? {
            [rows, inner] | [inner, rows] if rows == n_embd => Some(inner),
            _ => None,
        }
    }

    /// Whether there is a bias besides those of queries, keys and values.
    fn has_biases(&self) -> bool {
        let is_bias = |name: &str| name.ends_with(".bias") && !name.ends_with(".attn.c_attn.bias");
        self.meanings.iter().any(|m| matches!(m, Meaning::Whole(name) if is_bias(name)))
    }

    fn is_conv1d(&self) -> Option<bool> {
        let name = "h.0.attn.c_attn.weight";
        let [rows, cols] = self.matrix(name).ok()?;
        if matches!(self.find(name).map(|i| &self.meanings[i]), Some(Meaning::Third(..))) {
            // Separate queries, keys and values are always [out, in].
            return Some(false);
        }
        let [is_wide, is_tall] = [(rows, cols), (cols, rows)].map(|(short, long)| long == short.saturating_mul(3));
        (is_wide || is_tall).then_some(is_wide)
    }
}

/// The index of the block that a tensor belongs to.
fn block_of(meaning: &Meaning) -> Option<usize> {
    let (Meaning::Whole(name) | Meaning::Third(name, _)) = meaning else { return None };
    name.strip_prefix("h.")?.split_once('.')?.0.parse().ok()
}
