//! From a prompt to a text: drawing tokens, and feeding them back through the KV cache.

mod generation;
mod sampler;

pub use generation::{GenerateError, Generation};
pub use sampler::{Sampler, SamplerConfig, SamplerError};
