//! Why a sequence cannot be generated.

use super::sampler::SamplerError;
use crate::model::ModelConfig;

/// Why a prompt cannot be continued.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
pub enum GenerateError {
    /// The prompt contains no token.
    #[error("the prompt is empty: give at least one token to continue from")]
    EmptyPrompt,
    /// The prompt exceeds the model's context.
    #[error("the prompt has {n_tokens} tokens, the model's context is {n_positions}: shorten it, or keep only its end")]
    PromptTooLong {
        /// Number of tokens in the prompt.
        n_tokens: usize,
        /// Number of positions in the model's context.
        n_positions: usize,
    },
    /// The prompt contains an id outside the model's vocabulary.
    #[error("token {id} is not one of the model's {vocab_size}: was the prompt encoded by another tokenizer?")]
    UnknownToken {
        /// The invalid token id.
        id: u32,
        /// V, the model's vocabulary size.
        vocab_size: usize,
    },
    /// The sampler cannot draw a token.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// A number of beams that no search can have.
    #[error("{n_beams} beams: expected 1 to {vocab_size}, the number of tokens to choose from")]
    Beams {
        /// Number of beams that was asked for.
        n_beams: usize,
        /// V, the model's vocabulary size.
        vocab_size: usize,
    },
    /// The memory for keys and values does not suffice for one sequence.
    #[error(
        "keys and values of {n_tokens} tokens take {needed} bytes, {kv_bytes} are available: raise the limit, or ask for \
         fewer tokens"
    )]
    BudgetTooSmall {
        /// Tokens that the sequence may have.
        n_tokens: usize,
        /// Bytes that they take, in whole pages.
        needed: u64,
        /// The memory that was set aside for them.
        kv_bytes: u64,
    },
}

/// Checks that a model can continue a prompt.
///
/// # Errors
/// If the prompt is empty, exceeds the model's context, or contains unknown ids.
pub(super) fn check_prompt(config: &ModelConfig, prompt: &[u32]) -> Result<(), GenerateError> {
    let (n_tokens, n_positions, vocab_size) = (prompt.len(), config.n_positions, config.vocab_size);
    if n_tokens == 0 {
        return Err(GenerateError::EmptyPrompt);
    }
    if n_tokens > n_positions {
        return Err(GenerateError::PromptTooLong { n_tokens, n_positions });
    }
    match prompt.iter().find(|&&id| id as usize >= vocab_size) {
        Some(&id) => Err(GenerateError::UnknownToken { id, vocab_size }),
        None => Ok(()),
    }
}
