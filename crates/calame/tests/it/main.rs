//! The library's tests from outside, in one binary.

mod data;
mod tokenizer;
