//! The contents of a pickle.

use std::collections::BTreeSet;

use super::names::Known;

/// A value; containers are indices into a `Pickle`.
#[derive(Clone, Copy, Debug)]
pub(in crate::formats::torch) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits: two's complement, least significant byte first.
    Long(&'a [u8]),
    Float(f64),
    Str(&'a str),
    Bytes,
    /// A list or set.
    List(usize),
    Tuple(usize),
    /// A dict or `OrderedDict`.
    Dict(usize),
    Known(Known),
    /// A class or function without a meaning here.
    Foreign(usize),
    /// A call that was not executed: the function's name and the tuple of its arguments.
    Call(Known, usize),
    /// What a class or function without a meaning here would have created.
    Object(usize),
    /// A reference to something outside the pickle, such as a storage.
    Persistent(usize),
}

/// An object of a class, or the result of a function, without a meaning here. Nothing was called to create it.
#[derive(Clone, Copy, Debug)]
pub(in crate::formats::torch) struct Object<'a> {
    /// Index of the class's or function's name.
    pub(super) name: usize,
    /// What was to become its attributes: a dict, or anything else that its class understands.
    pub state: Option<Value<'a>>,
    /// The entries that were set in it, if it is a kind of dict.
    pub entries: Option<usize>,
}

/// The contents of a pickle.
#[derive(Debug)]
pub(in crate::formats::torch) struct Pickle<'a> {
    pub root: Value<'a>,
    /// Size of the pickle in bytes; more data may follow it.
    pub n_bytes: usize,
    /// Indices of the sequences that identify outside objects, in order.
    pub persistent: Vec<usize>,
    pub(super) sequences: Vec<Vec<Value<'a>>>,
    pub(super) dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    pub(super) objects: Vec<Object<'a>>,
    /// Module and name of each class and function without a meaning here.
    pub(super) names: Vec<(&'a str, &'a str)>,
}

impl<'a> Pickle<'a> {
    /// The items of a list or tuple, the arguments of a call, or the identity of an outside object.
    pub fn items(&self, sequence: usize) -> &[Value<'a>] {
        &self.sequences[sequence]
    }

    /// The entries of a dict in the order in which they were set. A key may occur twice; the later one is valid.
    pub fn entries(&self, dict: usize) -> &[(Value<'a>, Value<'a>)] {
        &self.dicts[dict]
    }

    /// The object with this index.
    pub fn object(&self, object: usize) -> Object<'a> {
        self.objects[object]
    }

    /// Module and name of each class or function of which there is an object.
    pub fn classes(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let used: BTreeSet<usize> = self.objects.iter().map(|object| object.name).collect();
        used.into_iter().map(|name| self.names[name])
    }

    /// Module and name of the class or function that an object is of.
    pub fn class(&self, object: usize) -> (&'a str, &'a str) {
        self.names[self.objects[object].name]
    }
}

impl Value<'_> {
    /// What the value is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::None => "None",
            Value::Bool(_) => "a bool",
            Value::Int(_) | Value::Long(_) | Value::Float(_) => "a number",
            Value::Str(_) => "a string",
            Value::Bytes => "bytes",
            Value::List(_) => "a list",
            Value::Tuple(_) => "a tuple",
            Value::Dict(_) => "a dict",
            Value::Known(_) | Value::Foreign(_) => "a type",
            Value::Call(..) => "a tensor",
            Value::Object(_) => "an object of a class",
            Value::Persistent(_) => "a storage",
        }
    }
}
