//! Maps the tensors of a file to parameters; everything that does not fit is reported in one list.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use super::CheckpointError;
use super::names::{Meaning, Naming};
use super::source::StoredTensor;
use crate::model::ModelConfig;
use crate::model::params::{ParamName, absent_biases, shapes};

/// The tensors of a file that contain one parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ParameterLocation {
    /// Indices of tensors whose rows are concatenated: a single one, or queries, keys and values.
    pub tensors: Vec<usize>,
    /// Whether the file stores the transpose, [in, out].
    pub transposed: bool,
}

/// The tensors of a file, by parameter.
#[derive(Debug)]
pub(super) struct ParameterLocations {
    pub of: HashMap<ParamName, ParameterLocation>,
    /// Tensors for biases that the model lacks; they must be zero.
    pub absent_biases: Vec<usize>,
    /// Tensors of a second head, which the language model does not use.
    pub unused: Vec<usize>,
}

/// The heads of transformers' other classes: the tensor, what the model is, and its class.
const OTHER_HEADS: [(&str, &str, &str); 3] = [
    ("score.weight", "a classifier of texts", "GPT2ForSequenceClassification"),
    ("classifier.weight", "a classifier of tokens", "GPT2ForTokenClassification"),
    ("qa_outputs.weight", "a model that answers questions", "GPT2ForQuestionAnswering"),
];
/// The second head of GPT2DoubleHeadsModel, beside that of the language model.
const SECOND_HEAD: &str = "multiple_choice_head.";

/// Finds all parameters of a model of this shape.
pub(super) fn match_tensors(
    path: &Path,
    tensors: &[StoredTensor],
    naming: Naming,
    conv1d: bool,
    config: &ModelConfig,
) -> Result<ParameterLocations, CheckpointError> {
    let mut problems = Vec::new();
    let mut found = by_meaning(tensors, naming, &mut problems);
    check_head(path, tensors, &found)?;
    let mut of = HashMap::new();
    for (name, shape) in shapes(config) {
        let ours = name.to_string();
        let Some(thirds) = found.remove(&ours) else {
            problems.push(format!("missing: {ours} {shape:?}"));
            continue;
        };
        let transposed = conv1d && name.is_conv1d();
        if let Some(place) = place_of(&ours, &shape, transposed, &thirds, tensors, &mut problems) {
            of.insert(name, place);
        }
    }
    // A model without biases is written with zeros for them where a format requires them.
    let absent: HashSet<String> = absent_biases(config).iter().map(|(name, _)| name.to_string()).collect();
    let (mut absent_biases, mut unused) = (Vec::new(), Vec::new());
    for (name, thirds) in found {
        let indices = thirds.into_iter().flatten();
        if absent.contains(&name) {
            absent_biases.extend(indices);
        } else if name.starts_with(SECOND_HEAD) {
            unused.extend(indices);
        } else if !(config.tied_head && name == "lm_head.weight") {
            problems.extend(indices.map(|i| format!("unexpected: {}", tensors[i].name)));
        }
    }
    if problems.is_empty() {
        absent_biases.sort_unstable();
        Ok(ParameterLocations { of, absent_biases, unused })
    } else {
        Err(CheckpointError::Tensors { path: path.to_owned(), problems })
    }
}

/// Checks that the file's head is not that of another kind of model.
fn check_head(
    path: &Path,
    tensors: &[StoredTensor],
    found: &BTreeMap<String, [Option<usize>; 3]>,
) -> Result<(), CheckpointError> {
    for (name, kind, class) in OTHER_HEADS {
        if let Some(head) = found.get(name).and_then(|places| places[0]) {
            let StoredTensor { name, shape, .. } = &tensors[head];
            let head = format!("{name} {shape:?}");
            return Err(CheckpointError::OtherHead { path: path.to_owned(), kind, class, head });
        }
    }
    Ok(())
}

/// The tensors for each of our names: a single one in the first element, or up to three.
fn by_meaning(
    tensors: &[StoredTensor],
    naming: Naming,
    problems: &mut Vec<String>,
) -> BTreeMap<String, [Option<usize>; 3]> {
    let mut found: BTreeMap<String, [Option<usize>; 3]> = BTreeMap::new();
    // A tensor without elements is absent: a placeholder of sharded training, or a disabled part.
    for (i, tensor) in tensors.iter().enumerate().filter(|(_, tensor)| !tensor.is_empty()) {
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

/// The tensors of one parameter, if they have its shape.
fn place_of(
    ours: &str,
    shape: &[usize],
    transposed: bool,
    thirds: &[Option<usize>; 3],
    tensors: &[StoredTensor],
    problems: &mut Vec<String>,
) -> Option<ParameterLocation> {
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
    (problems.len() == n_before).then_some(ParameterLocation { tensors: indices, transposed })
}

/// Whether a tensor contains only the queries' rows.
fn is_third(ours: &str, tensor: &StoredTensor) -> bool {
    ours.contains(".attn.c_attn.") && Naming::Book.meaning(&tensor.name) == Meaning::Third(ours.to_owned(), 0)
}
