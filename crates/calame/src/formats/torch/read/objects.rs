//! Interprets a saved object: which of its dicts is the model's, its tensors, and the other values.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::dtype::TorchDtype;
use super::error::{TorchFileError, shown};
use super::plain::PlainValue;
use crate::formats::torch::pickle::{Known, Pickle, Value};

/// Maximum size of a pickle in bytes. That of the largest GPT-2 with its optimizer has about 500 kB; a hostile one may
/// cost a hundred times its size in memory.
pub(super) const MAX_PICKLE_BYTES: u64 = 4 << 20;
/// Keys under which training programs store the model's state_dict, the most likely first.
const MODEL_KEYS: [&str; 3] = ["model_state_dict", "model", "state_dict"];
/// Maximum number of dimensions; tensors of a GPT have at most four.
const MAX_DIMS: usize = 8;
const MAX_DEPTH: usize = 32;
/// Memory that plain values may cost per byte of the pickle: the smallest value, None, takes one byte there.
const BYTES_PER_BYTE: usize = 2 * size_of::<PlainValue>();

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
}

/// Finds the model in a saved object.
pub(super) fn find<'a>(path: &Path, pickle: &Pickle<'a>) -> Result<Found<'a>, TorchFileError> {
    let no_model = |found: String| TorchFileError::NoModel { path: path.to_owned(), found };
    let Value::Dict(root) = pickle.root else { return Err(no_model(kind(&pickle.root).to_owned())) };
    let root = named(path, pickle, root)?;
    let wrapped = |key: &&str| root.iter().find(|(name, value)| name == key && holds_tensors(pickle, value));
    let model = MODEL_KEYS.iter().find_map(wrapped);
    let entries = match model {
        Some((_, Value::Dict(dict))) => &named(path, pickle, *dict)?,
        _ => &root,
    };
    let mut tensors = Vec::new();
    let mut values = Plain { pickle, left: BYTES_PER_BYTE * pickle.n_bytes, values: Vec::new() };
    for (name, value) in entries {
        match value {
            Value::Call(..) => {
                let claim = tensor(pickle, name, value);
                tensors.push(
                    claim.map_err(|reason| TorchFileError::damaged(path, format!("tensor {}", shown(name)), reason))?,
                );
            }
            _ => values.add(path, name, value)?,
        }
    }
    if tensors.is_empty() {
        let keys: Vec<String> =
            root.iter().take(10).map(|(name, value)| format!("{} ({})", shown(name), kind(value))).collect();
        return Err(no_model(format!("a dict of {} keys: {}", root.len(), keys.join(", "))));
    }
    if let Some((model, _)) = model {
        for (name, value) in root.iter().filter(|(name, _)| name != model) {
            values.add(path, name, value)?;
        }
    }
    Ok(Found { tensors, values: values.values })
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
    match value {
        Value::Dict(dict) => pickle.entries(*dict).iter().any(|(_, value)| matches!(value, Value::Call(..))),
        _ => false,
    }
}

fn kind(value: &Value<'_>) -> &'static str {
    match value {
        Value::None => "None",
        Value::Bool(_) => "a bool",
        Value::Int(_) | Value::Long(_) | Value::Float(_) => "a number",
        Value::Str(_) => "a string",
        Value::Bytes => "bytes",
        Value::List(_) => "a list",
        Value::Tuple(_) => "a tuple",
        Value::Dict(_) => "a dict",
        Value::Known(_) => "a type",
        Value::Call(..) => "a tensor",
        Value::Persistent(_) => "a storage",
    }
}

fn tensor<'a>(pickle: &Pickle<'a>, name: &'a str, value: &Value<'a>) -> Result<TensorClaim<'a>, String> {
    let arguments = match *value {
        Value::Call(Known::Tensor, arguments) => pickle.items(arguments),
        // A parameter is a call with a tensor as argument; that tensor must not be a parameter itself.
        Value::Call(Known::Parameter, arguments) => match pickle.items(arguments) {
            [Value::Call(Known::Tensor, arguments), ..] => pickle.items(*arguments),
            _ => return Err("a parameter that is made from no tensor".to_owned()),
        },
        ref other => return Err(format!("{}, expected a tensor", kind(other))),
    };
    let [Value::Persistent(identity), Value::Int(offset), Value::Tuple(shape), Value::Tuple(strides), ..] = *arguments
    else {
        let kinds: Vec<&str> = arguments.iter().take(MAX_DIMS).map(kind).collect();
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
        ref other => Err(format!("{what}: {}, expected whole numbers", kind(other))),
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

/// Copies the values next to the model's tensors out of the pickle.
///
/// A pickle may refer to a container from many places, even from within itself, so the copied bytes are limited.
struct Plain<'p, 'a> {
    pickle: &'p Pickle<'a>,
    /// Bytes of memory that may still be used.
    left: usize,
    values: Vec<(String, PlainValue)>,
}

impl<'a> Plain<'_, 'a> {
    fn add(&mut self, path: &Path, name: &str, value: &Value<'a>) -> Result<(), TorchFileError> {
        let plain = self.copy(value, 0);
        let plain = plain.map_err(|reason| TorchFileError::damaged(path, format!("value {}", shown(name)), reason))?;
        self.values.push((name.to_owned(), plain));
        Ok(())
    }

    fn copy(&mut self, value: &Value<'a>, depth: usize) -> Result<PlainValue, &'static str> {
        if depth > MAX_DEPTH {
            return Err("its containers are nested too deeply, or in themselves");
        }
        let cost = size_of::<PlainValue>() + if let Value::Str(text) = value { text.len() } else { 0 };
        self.left = self.left.checked_sub(cost).ok_or("it repeats more than the file has bytes for")?;
        let pickle = self.pickle;
        Ok(match *value {
            Value::None => PlainValue::None,
            Value::Bool(value) => PlainValue::Bool(value),
            Value::Int(value) => PlainValue::Int(value),
            Value::Float(value) => PlainValue::Float(value),
            Value::Str(text) => PlainValue::Str(text.to_owned()),
            Value::List(items) | Value::Tuple(items) => PlainValue::List(
                pickle.items(items).iter().map(|item| self.copy(item, depth + 1)).collect::<Result<_, _>>()?,
            ),
            Value::Dict(dict) => {
                let entry = |(key, value): &(Value<'a>, Value<'a>)| {
                    Ok::<_, &'static str>((self.copy(key, depth + 1)?, self.copy(value, depth + 1)?))
                };
                PlainValue::Dict(pickle.entries(dict).iter().map(entry).collect::<Result<_, _>>()?)
            }
            ref other => PlainValue::Other(kind(other)),
        })
    }
}
