//! Train, tune, evaluate and run GPT models of the GPT-2 family.
//!
//! The rooms in reading order: [`data`] (text to batches, through a [`tokenizer`]), [`model`] (the layers, on [`ops`] and
//! [`tensor`]), [`train`] (the loop), [`checkpoint`] (models as files, their numbers in formats of [`quant`]), [`infer`] (from a prompt to a text).
//! ARCHITECTURE.md is the map.
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod data;
pub mod device;
pub mod infer;
pub mod model;
pub mod ops;
pub mod quant;
pub mod rng;
pub mod tensor;
pub mod tokenizer;
pub mod train;
