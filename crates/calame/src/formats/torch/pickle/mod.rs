//! Reads pickles as data: numbers, strings, containers, the names with which PyTorch describes tensors, and objects of any
//! other class or function, which stay opaque.
//!
//! A pickle is a program for a small stack machine that may call any Python function. This machine has no functions:
//! names are stored together with their arguments and attributes, and nothing is ever executed. A file that refers to a
//! name that only an attack needs, such as `os.system`, is refused altogether.
//! Memory is proportional to the size of the pickle, because an instruction creates at most one value and containers
//! are referenced, not copied.
//! Source of the instructions: CPython's `Lib/pickletools.py`, protocols 2 to 5.

mod machine;
mod names;
mod value;

pub(super) use machine::PickleError;
pub(super) use names::Known;
pub(super) use value::{Pickle, Value};
