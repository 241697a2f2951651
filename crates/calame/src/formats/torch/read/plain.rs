//! Values beside a model's tensors.

/// A value that stands beside a model's tensors, such as a training's settings.
#[derive(Clone, Debug, PartialEq)]
pub enum PlainValue {
    /// Python's None.
    None,
    /// True or False.
    Bool(bool),
    /// A whole number of at most 64 bits.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string.
    Str(String),
    /// A list, a tuple or a set.
    List(Vec<PlainValue>),
    /// A dict, in the order in which its keys were set.
    Dict(Vec<(PlainValue, PlainValue)>),
    /// What is none of these, by its kind: a tensor, bytes, a larger number.
    Other(&'static str),
}

impl PlainValue {
    /// The value of a string's key in a dict; None where it is no dict or lacks the key.
    pub fn get(&self, key: &str) -> Option<&PlainValue> {
        let PlainValue::Dict(entries) = self else { return None };
        // As in Python, what was set later holds.
        entries.iter().rev().find(|(k, _)| matches!(k, PlainValue::Str(k) if k == key)).map(|(_, value)| value)
    }
}
