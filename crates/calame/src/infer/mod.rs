//! Inference: generates text from a prompt.

mod generation;
mod sampler;
mod text;

pub use generation::{GenerateError, Generation, GenerationLimits, generation_bytes};
pub use sampler::{Sampler, SamplerConfig, SamplerError};
pub use text::{TextError, TextGeneration, TextOptions, generate_text};
