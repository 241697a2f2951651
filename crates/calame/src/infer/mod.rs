//! Inference: from a prompt to a text.

mod generation;
mod sampler;

pub use generation::{GenerateError, Generation, GenerationLimits, generation_bytes};
pub use sampler::{Sampler, SamplerConfig, SamplerError};
