//! Inference: generates texts from prompts.
//!
//! [`Engine`] is the one implementation, for any number of sequences; [`TextEngine`] adds their texts. [`Generation`] is an
//! iterator over the tokens of one sequence, [`TextGeneration`] over its text. [`Sampler`] chooses tokens, [`StopStrings`]
//! find where a text ends. [`beam_search`] finds likely texts instead of drawing them.

mod beam;
mod draft;
mod engine;
mod error;
mod generation;
mod sampler;
mod stop;
mod text;
mod text_engine;
mod text_stream;

pub use beam::{Beam, BeamConfig, beam_search, beam_search_bytes};
pub use engine::{
    Engine, EngineLimits, EngineState, Event, FinishReason, Request, SequenceId, TokenLogProbs, engine_bytes,
};
pub use error::GenerateError;
pub use generation::{Generation, GenerationLimits, generation_bytes};
pub use sampler::{History, LogProbs, LogitRules, Sampler, SamplerConfig, SamplerError, SamplerScratch, TokenLogProb};
pub use stop::{StopError, StopMatcher, StopStrings};
pub use text::{TextGeneration, TextOptions, generate_text};
pub use text_engine::{TextEnd, TextEngine, TextError, TextEvent};
