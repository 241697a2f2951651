//! The library's tests from outside, in one binary.

mod checkpoint;
mod checkpoints;
mod data;
mod foreign;
mod formats;
mod gguf;
mod golden;
mod infer;
mod llmc;
mod model;
mod onnx;
mod optimisation;
mod plot;
mod prepare;
mod shards;
mod support;
mod tidy;
mod tokenizer;
mod torch_file;
mod torch_rng;
mod torch_run;
mod torch_write;
mod train;
