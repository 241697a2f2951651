//! Interprets a saved object: which of its dicts is the model's, its tensors, and the other values.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use super::beside::copy_all;
use super::dtype::TorchDtype;
use super::error::{TorchFileError, class_name, shown};
use super::plain::PlainValue;
use crate::formats::torch::pickle::{Known, Pickle, Value};

/// Maximum size of a pickle in bytes. That of the largest GPT-2 with its optimizer has about 500 kB; a hostile one may
/// cost a hundred times its size in memory.
pub(super) const MAX_PICKLE_BYTES: u64 = 4 << 20;
/// Keys under which training programs store the model's state_dict, the most likely first.
const MODEL_KEYS: [&str; 6] = ["model_state_dict", "model", "state_dict", "module", "model_state", "weights"];
/// Maximum number of dimensions; tensors of a GPT have at most four.
const MAX_DIMS: usize = 8;
/// Maximum number of classes that a note lists.
const MAX_CLASSES: usize = 5;

/// A tensor as the pickle describes it, not yet checked against the file.
#[derive(Debug)]
pub(super) struct TensorClaim<'a> {
    pub name: &'a str,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
    pub offset: usize,
    pub storage: StorageClaim<'a>,
}

/// A storage as the pickle describes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct StorageClaim<'a> {
    pub key: &'a str,
    pub dtype: TorchDtype,
    pub n_elements: u64,
}

/// The model's tensors and the other values of the saved object, in file order.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub tensors: Vec<TensorClaim<'a>>,
    pub values: Vec<(String, PlainValue)>,
    /// Classes and functions without a meaning here, of which the file has objects.
    pub classes: Vec<String>,
}

/// Finds the model in a saved object.
pub(super) fn find<'a>(path: &Path, pickle: &Pickle<'a>) -> Result<Found<'a>, TorchFileError> {
    let no_model = |found: String| TorchFileError::NoModel { path: path.to_owned(), found };
    let Some(root) = dict_of(pickle, &pickle.root) else { return Err(no_model(whole(pickle))) };
    let root = named(path, pickle, root)?;
    let wrapped = |key: &&str| root.iter().find(|(name, value)| name == key && holds_tensors(pickle, value));
    let model = MODEL_KEYS.iter().find_map(wrapped);
    let entries = match model.and_then(|(_, value)| dict_of(pickle, value)) {
        Some(dict) => &named(path, pickle, dict)?,
        None => &root,
    };
    let mut tensors = Vec::new();
    let mut values = Vec::new();
    for (name, value) in entries {
        match value {
            Value::Call(..) => {
                let claim = tensor(pickle, name, value);
                tensors.push(
                    claim.map_err(|reason| TorchFileError::damaged(path, format!("tensor {}", shown(name)), reason))?,
                );
            }
            _ => values.push((*name, *value)),
        }
    }
    if tensors.is_empty() {
        let keys: Vec<String> = root
            .iter()
            .take(10)
            .map(|(name, value)| format!("{} ({})", shown(name), described(pickle, value)))
            .collect();
        return Err(no_model(format!("a dict of {} keys: {}", root.len(), keys.join(", "))));
    }
    if let Some((model, _)) = model {
        values.extend(root.iter().filter(|(name, _)| name != model));
    }
    Ok(Found { tensors, values: copy_all(pickle, &values), classes: classes(pickle) })
}

/// What the saved object is, if it is no dict.
fn whole(pickle: &Pickle<'_>) -> String {
    let remedy = match pickle.root {
        Value::Object(_) => "; save only its weights: torch.save(model.state_dict(), …)",
        _ => "",
    };
    format!("{}{remedy}", described(pickle, &pickle.root))
}

fn described(pickle: &Pickle<'_>, value: &Value<'_>) -> String {
    match *value {
        Value::Object(object) => format!("an object of {}", class_name(pickle.class(object))),
        ref other => other.kind().to_owned(),
    }
}

/// The classes and functions of which the pickle has objects, in alphabetical order; the last item counts those left out.
fn classes(pickle: &Pickle<'_>) -> Vec<String> {
    let all: BTreeSet<String> = pickle.classes().map(class_name).collect();
    let n_more = all.len().saturating_sub(MAX_CLASSES);
    let mut classes: Vec<String> = all.into_iter().take(MAX_CLASSES).collect();
    if n_more > 0 {
        classes.push(format!("{n_more} more"));
    }
    classes
}

/// The entries of a dict, or of an object that is a kind of dict.
fn dict_of(pickle: &Pickle<'_>, value: &Value<'_>) -> Option<usize> {
    match *value {
        Value::Dict(dict) => Some(dict),
        Value::Object(object) => pickle.object(object).entries,
        _ => None,
    }
}

/// All storages that the object refers to, including the optimizer's.
pub(super) fn storages<'a>(
    path: &Path,
    pickle: &Pickle<'a>,
) -> Result<HashMap<&'a str, StorageClaim<'a>>, TorchFileError> {
    let mut claims = HashMap::new();
    for &identity in &pickle.persistent {
        let claim = storage(pickle, identity).map_err(|reason| TorchFileError::damaged(path, "a storage", reason))?;
        claims.insert(claim.key, claim);
    }
    Ok(claims)
}

/// The entries of a dict whose keys are strings; duplicates are an error.
fn named<'a>(path: &Path, pickle: &Pickle<'a>, dict: usize) -> Result<Vec<(&'a str, Value<'a>)>, TorchFileError> {
    let mut seen = HashSet::new();
    let mut entries = Vec::new();
    for (key, value) in pickle.entries(dict) {
        let Value::Str(name) = *key else { continue };
        if !seen.insert(name) {
            return Err(TorchFileError::damaged(path, format!("key {}", shown(name)), "it occurs twice"));
        }
        entries.push((name, *value));
    }
    Ok(entries)
}

fn holds_tensors(pickle: &Pickle<'_>, value: &Value<'_>) -> bool {
    dict_of(pickle, value)
        .is_some_and(|dict| pickle.entries(dict).iter().any(|(_, value)| matches!(value, Value::Call(..))))
}

fn tensor<'a>(pickle: &Pickle<'a>, name: &'a str, value: &Value<'a>) -> Result<TensorClaim<'a>, String> {
    let arguments = match *value {
        Value::Call(Known::Tensor, arguments) => pickle.items(arguments),
        // A parameter is a call with a tensor as argument; that tensor must not be a parameter itself.
        Value::Call(Known::Parameter, arguments) => match pickle.items(arguments) {
            [Value::Call(Known::Tensor, arguments), ..] => pickle.items(*arguments),
            _ => return Err("a parameter that is made from no tensor".to_owned()),
        },
        // A function, the class, its arguments and the attributes, which a weight has no use for.
        Value::Call(Known::TensorOfClass, arguments) => match pickle.items(arguments) {
            [Value::Known(Known::Tensor), _, Value::Tuple(arguments), ..] => pickle.items(*arguments),
            _ => return Err("an object of a class of tensors that is made from no tensor".to_owned()),
        },
        ref other => return Err(format!("{}, expected a tensor", other.kind())),
    };
    let [Value::Persistent(identity), Value::Int(offset), Value::Tuple(shape), Value::Tuple(strides), ..] = *arguments
    else {
        let kinds: Vec<&str> = arguments.iter().take(MAX_DIMS).map(Value::kind).collect();
        return Err(format!("made from {}; expected a storage, a number and two tuples", kinds.join(", ")));
    };
    Ok(TensorClaim {
        name,
        shape: sizes(pickle.items(shape), "its shape")?,
        strides: sizes(pickle.items(strides), "its strides")?,
        offset: usize::try_from(offset).map_err(|_| format!("its offset: {offset}, expected at least 0"))?,
        storage: storage(pickle, identity)?,
    })
}

fn sizes(items: &[Value<'_>], what: &str) -> Result<Vec<usize>, String> {
    if items.len() > MAX_DIMS {
        return Err(format!("{what}: {} numbers, expected at most {MAX_DIMS}", items.len()));
    }
    let size = |item: &Value<'_>| match *item {
        Value::Int(n) => usize::try_from(n).map_err(|_| format!("{what}: {n}, expected at least 0")),
        ref other => Err(format!("{what}: {}, expected whole numbers", other.kind())),
    };
    items.iter().map(size).collect()
}

/// Reads `('storage', type, key, device, number of elements)`; the legacy layout appends None or a view description.
fn storage<'a>(pickle: &Pickle<'a>, identity: usize) -> Result<StorageClaim<'a>, String> {
    match *pickle.items(identity) {
        [
            Value::Str("storage"),
            Value::Known(Known::Storage(dtype)),
            Value::Str(key),
            Value::Str(_),
            Value::Int(n_elements),
            ref rest @ ..,
        ] => match rest {
            [] | [Value::None] => u64::try_from(n_elements)
                .map(|n_elements| StorageClaim { key, dtype, n_elements })
                .map_err(|_| format!("storage {} has {n_elements} elements, expected at least 0", shown(key))),
            _ => Err(format!("storage {} is a view of another one, as PyTorch wrote before 0.4", shown(key))),
        },
        ref other => {
            Err(format!("identified by {} values, expected a storage's type, key, device and size", other.len()))
        }
    }
}
