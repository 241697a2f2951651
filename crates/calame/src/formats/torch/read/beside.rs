//! Copies the values next to a model's tensors out of a pickle.
//!
//! They are of no use to most readers, so none of them is an error: one that cannot be copied is listed by its kind.

use super::error::class_name;
use super::plain::PlainValue;
use crate::formats::torch::pickle::{Pickle, Value};

/// Maximum depth of containers.
const MAX_DEPTH: usize = 32;
/// Maximum depth of objects within objects. Configurations are shallow, and a trainer's objects refer to each other in
/// circles.
const MAX_OBJECT_DEPTH: usize = 3;
/// Memory that plain values may cost per byte of the pickle: the smallest value, None, takes one byte there.
const BYTES_PER_BYTE: usize = 2 * size_of::<PlainValue>();
/// Keys that configurations have. They are copied first, so that nothing else can use up their memory.
pub(in crate::formats::torch) const CONFIG_KEYS: [&str; 6] =
    ["model_args", "cfg", "config", "hyper_parameters", "hparams", "args"];

/// Copies values, by their names and in their order.
///
/// A pickle may refer to a container from many places, even from within itself, so the copied bytes are limited.
pub(super) fn copy_all<'a>(pickle: &Pickle<'a>, values: &[(&'a str, Value<'a>)]) -> Vec<(String, PlainValue)> {
    let mut copier = Copier { pickle, left: BYTES_PER_BYTE * pickle.n_bytes };
    let is_config = |i: &usize| CONFIG_KEYS.contains(&values[*i].0);
    let (first, others): (Vec<usize>, Vec<usize>) = (0..values.len()).partition(is_config);
    let mut copied: Vec<(String, PlainValue)> =
        values.iter().map(|(name, _)| ((*name).to_owned(), PlainValue::None)).collect();
    for i in first.into_iter().chain(others) {
        copied[i].1 = copier.copy(&values[i].1, Depth::default()).unwrap_or_else(PlainValue::Other);
    }
    copied
}

#[derive(Clone, Copy, Default)]
struct Depth {
    containers: usize,
    objects: usize,
}

struct Copier<'p, 'a> {
    pickle: &'p Pickle<'a>,
    /// Bytes of memory that may still be used.
    left: usize,
}

impl<'a> Copier<'_, 'a> {
    /// A copy of a value, or why there is none.
    fn copy(&mut self, value: &Value<'a>, depth: Depth) -> Result<PlainValue, &'static str> {
        if depth.containers > MAX_DEPTH {
            return Err("a value nested too deeply, or in itself");
        }
        let cost = size_of::<PlainValue>() + if let Value::Str(text) = value { text.len() } else { 0 };
        self.pay(cost)?;
        let pickle = self.pickle;
        let inner = Depth { containers: depth.containers + 1, ..depth };
        Ok(match *value {
            Value::None => PlainValue::None,
            Value::Bool(value) => PlainValue::Bool(value),
            Value::Int(value) => PlainValue::Int(value),
            Value::Float(value) => PlainValue::Float(value),
            Value::Str(text) => PlainValue::Str(text.to_owned()),
            Value::List(items) | Value::Tuple(items) => PlainValue::List(
                pickle.items(items).iter().map(|item| self.copy(item, inner)).collect::<Result<_, _>>()?,
            ),
            Value::Dict(dict) => PlainValue::Dict(self.entries(dict, inner)?),
            Value::Object(object) => self.object(object, Depth { objects: depth.objects + 1, ..inner })?,
            ref other => PlainValue::Other(other.kind()),
        })
    }

    fn entries(&mut self, dict: usize, depth: Depth) -> Result<Vec<(PlainValue, PlainValue)>, &'static str> {
        let entries = self.pickle.entries(dict).iter();
        entries.map(|(key, value)| Ok((self.copy(key, depth)?, self.copy(value, depth)?))).collect()
    }

    fn object(&mut self, object: usize, depth: Depth) -> Result<PlainValue, &'static str> {
        let class = class_name(self.pickle.class(object));
        self.pay(class.len())?;
        let mut attributes = Vec::new();
        if depth.objects <= MAX_OBJECT_DEPTH {
            let object = self.pickle.object(object);
            // The state of a class with `__slots__` is a tuple of two dicts.
            let state = match object.state {
                Some(Value::Tuple(parts)) => self.pickle.items(parts),
                ref state => state.as_slice(),
            };
            let dicts = state.iter().filter_map(|part| if let Value::Dict(dict) = part { Some(*dict) } else { None });
            for dict in dicts.chain(object.entries) {
                attributes.extend(self.entries(dict, depth)?);
            }
        }
        Ok(PlainValue::Object { class, attributes })
    }

    fn pay(&mut self, cost: usize) -> Result<(), &'static str> {
        self.left = self.left.checked_sub(cost).ok_or("a value that repeats more than the file has bytes for")?;
        Ok(())
    }
}
