//! The library's tests from outside, in one binary.

mod checkpoint;
mod data;
mod foreign;
mod golden;
mod infer;
mod model;
mod onnx;
mod plot;
mod tidy;
mod tokenizer;
mod torch_file;
mod torch_rng;
mod train;
