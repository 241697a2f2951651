//! The library's tests from outside, in one binary.

mod data;
mod foreign;
mod golden;
mod model;
mod plot;
mod tidy;
mod tokenizer;
