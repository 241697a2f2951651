//! Train, tune, evaluate and run GPT models of the GPT-2 family.
//!
//! The rooms in reading order: [`model`] (the layers), [`ops`] and [`tensor`] below them. ARCHITECTURE.md is the map.
#![forbid(unsafe_code)]

pub mod model;
pub mod ops;
pub mod rng;
pub mod tensor;
