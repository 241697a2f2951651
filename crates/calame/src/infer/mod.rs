//! Inference: generates text from a prompt.

mod generation;
mod sampler;
mod stop;
mod text;

pub use generation::{GenerateError, Generation, GenerationLimits, generation_bytes};
pub use sampler::{History, LogProbs, LogitRules, Sampler, SamplerConfig, SamplerError, SamplerScratch, TokenLogProb};
pub use stop::{StopError, StopMatcher, StopStrings};
pub use text::{TextError, TextGeneration, TextOptions, generate_text};
