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
    /// An object of a class that the script defines, read as data: nothing was called to create it.
    Object {
        /// The class, or the function that would create the object, with its module.
        class: String,
        /// Attributes and entries, in the order in which they were set; empty if they are stored in another form.
        attributes: Vec<(PlainValue, PlainValue)>,
    },
    /// The kind of any other value: a tensor, bytes, a larger number, one that contains itself.
    Other(&'static str),
}

impl PlainValue {
    /// The entries of a dict or the attributes of an object; none for other values.
    pub fn entries(&self) -> &[(PlainValue, PlainValue)] {
        match self {
            PlainValue::Dict(entries) | PlainValue::Object { attributes: entries, .. } => entries,
            _ => &[],
        }
    }

    /// Looks up a string key in a dict, or an attribute of an object; `None` if this is neither or lacks the key.
    pub fn get(&self, key: &str) -> Option<&PlainValue> {
        // As in Python, the entry set last is valid.
        self.entries().iter().rev().find(|(k, _)| matches!(k, PlainValue::Str(k) if k == key)).map(|(_, value)| value)
    }
}
