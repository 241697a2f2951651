//! Which tensors of a file make which parameter; all that does not fit as one list.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::CheckpointError;
use super::names::{Meaning, Naming, is_conv1d};
use super::source::StoredTensor;
use crate::model::ModelConfig;
use crate::model::params::{ParamName, shapes};

/// Where a parameter stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Tensors of the file whose rows follow one another: one, or queries, keys and values.
    pub tensors: Vec<usize>,
    /// Whether the file has the transpose: [in, out].
    pub transposed: bool,
}

/// What a file's tensors are in a model.
#[derive(Debug)]
pub(super) struct Places {
    pub of: HashMap<ParamName, Place>,
    /// Tensors in the place of qkv biases that the model lacks: they must be zero.
    pub absent_biases: Vec<usize>,
}

/// Finds every parameter of a model of this shape.
pub(super) fn match_tensors(
    path: &Path,
    tensors: &[StoredTensor],
    naming: Naming,
    conv1d: bool,
    config: &ModelConfig,
) -> Result<Places, CheckpointError> {
    let mut problems = Vec::new();
    let mut found = by_meaning(tensors, naming, &mut problems);
    let mut of = HashMap::new();
    for (name, shape) in shapes(config) {
        let ours = name.to_string();
        let Some(thirds) = found.remove(&ours) else {
            problems.push(format!("missing: {ours} {shape:?}"));
            continue;
        };
        let transposed = conv1d && is_conv1d(name.path());
        if let Some(place) = place_of(&ours, &shape, transposed, &thirds, tensors, &mut problems) {
            of.insert(name, place);
        }
    }
    let mut absent_biases = Vec::new();
    for (name, thirds) in found {
        let indices = thirds.into_iter().flatten();
        if !config.qkv_bias && name.ends_with(".attn.c_attn.bias") {
            // A model without qkv bias is written with zeros in its place.
            absent_biases.extend(indices);
        } else if !(config.tied_head && name == "lm_head.weight") {
            problems.extend(indices.map(|i| format!("unexpected: {}", tensors[i].name)));
        }
    }
    if problems.is_empty() {
        absent_biases.sort_unstable();
        Ok(Places { of, absent_biases })
    } else {
        Err(CheckpointError::Tensors { path: path.to_owned(), problems })
    }
}

/// The tensors of each name of ours: one in the first place, or up to three.
fn by_meaning(
    tensors: &[StoredTensor],
    naming: Naming,
    problems: &mut Vec<String>,
) -> BTreeMap<String, [Option<usize>; 3]> {
    let mut found: BTreeMap<String, [Option<usize>; 3]> = BTreeMap::new();
    for (i, tensor) in tensors.iter().enumerate() {
        let (name, third) = match naming.meaning(&tensor.name) {
            Meaning::Whole(name) => (name, 0),
            Meaning::Third(name, third) => (name, third),
            Meaning::Nothing => continue,
        };
        if let Some(other) = found.entry(name.clone()).or_default()[third].replace(i) {
            problems.push(format!("twice: {name}, as {} and {}", tensors[other].name, tensor.name));
        }
    }
    found
}

/// The place of one parameter, if what was found has its shape.
fn place_of(
    ours: &str,
    shape: &[usize],
    transposed: bool,
    thirds: &[Option<usize>; 3],
    tensors: &[StoredTensor],
    problems: &mut Vec<String>,
) -> Option<Place> {
    let (expected, indices) = match *thirds {
        [Some(whole), None, None] if !is_third(ours, &tensors[whole]) => {
            let mut expected = shape.to_vec();
            if transposed {
                expected.reverse();
            }
            (expected, vec![whole])
        }
        [Some(q), Some(k), Some(v)] => {
            let mut expected = shape.to_vec();
            expected[0] /= 3;
            (expected, vec![q, k, v])
        }
        _ => {
            problems.push(format!("missing: a part of {ours} (its queries, keys or values)"));
            return None;
        }
    };
    let n_before = problems.len();
    for tensor in indices.iter().map(|&i| &tensors[i]) {
        if tensor.shape != expected {
            problems.push(format!("misshapen: {} is {:?}, expected {expected:?}", tensor.name, tensor.shape));
        } else if !tensor.is_float {
            problems.push(format!("{} is {}: expected floats", tensor.name, tensor.dtype));
        }
    }
    (problems.len() == n_before).then_some(Place { tensors: indices, transposed })
}

/// Whether a tensor holds the queries' rows alone.
fn is_third(ours: &str, tensor: &StoredTensor) -> bool {
    ours.contains(".attn.c_attn.") && Naming::Book.meaning(&tensor.name) == Meaning::Third(ours.to_owned(), 0)
}
