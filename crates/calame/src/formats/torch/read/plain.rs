//! Values stored next to a model's tensors.

/// A value stored next to a model's tensors, such as a training setting.
#[derive(Clone, Debug, PartialEq)]
pub enum PlainValue {
    /// Python's `None`, which has no value.
    None,
    /// Python's `True` or `False`.
    Bool(bool),
    /// An integer of at most 64 bits.
    Int(i64),
    /// Python's `float`, 64 bits.
    Float(f64),
    /// A string, decoded from UTF-8.
    Str(String),
    /// A list, tuple or set.
    List(Vec<PlainValue>),
    /// A dict, in the order in which its keys were set.
    Dict(Vec<(PlainValue, PlainValue)>),
    /// The kind of any other value: a tensor, bytes, a larger number.
    Other(&'static str),
}

impl PlainValue {
    /// Looks up a string key in a dict; `None` if this is not a dict or lacks the key.
    pub fn get(&self, key: &str) -> Option<&PlainValue> {
        let PlainValue::Dict(entries) = self else { return None };
        // As in Python, the entry set last is valid.
        entries.iter().rev().find(|(k, _)| matches!(k, PlainValue::Str(k) if k == key)).map(|(_, value)| value)
    }
}
