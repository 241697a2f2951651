//! The library's tests from outside, in one binary.

mod beams;
mod checkpoint;
mod checkpoints;
mod data;
mod engine;
mod family;
mod foreign;
mod formats;
mod gguf;
mod golden;
mod infer;
mod library;
mod llmc;
mod model;
mod narrow;
mod objective;
mod odd_models;

mod onnx;
mod optimisation;
mod plot;
mod prepare;
mod profiling;
mod raw;
mod samplers;
mod second_device;
mod shards;
#[path = "../../../calame-kernels/tests/skipped/record.rs"]
mod skipped;
mod storage;
mod support;
mod text_settings;

mod tidy;
mod tokenizer;
mod torch_file;
mod torch_rng;
mod torch_run;
mod torch_write;
mod train;
