//! Settings of the sampler, what a single request adds to them, and what can be wrong with them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Settings of the sampler. The defaults are greedy decoding and turn every other setting off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplerConfig {
    /// Logits are divided by it; 0 selects the most likely token (greedy).
    pub temperature: f32,
    /// Only the tokens with the k highest logits are candidates (more if several equal the k-th); 0 means all.
    pub top_k: usize,
    /// Only the most likely tokens that together reach this probability are candidates; 1 means all.
    pub top_p: f32,
    /// Only tokens with at least this share of the most likely token's probability are candidates; 0 means all.
    pub min_p: f32,
    /// Only the tokens whose information content is closest to the entropy and that together reach this probability
    /// are candidates (locally typical sampling); 1 means all.
    pub typical_p: f32,
    /// Logits of tokens that the prompt or the new text contains are divided by it if positive, otherwise multiplied;
    /// 1 changes nothing.
    pub repetition_penalty: f32,
    /// Subtracted from the logits of tokens that the new text contains; 0 changes nothing.
    pub presence_penalty: f32,
    /// Subtracted from a token's logit for each of its occurrences in the new text; 0 changes nothing.
    pub frequency_penalty: f32,
    /// Seed of the random draws.
    pub seed: u64,
}

impl Default for SamplerConfig {
    fn default() -> SamplerConfig {
        SamplerConfig {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 42,
        }
    }
}

impl SamplerConfig {
    /// Checks that every setting is in its range.
    ///
    /// # Errors
    /// Names the first setting that is out of range.
    pub fn validate(&self) -> Result<(), SamplerError> {
        let is_probability = |p: f32| p > 0.0 && p <= 1.0;
        let probability = "a probability above 0, at most 1";
        let finite = "a finite number, 0 for none";
        let settings = [
            (
                "temperature",
                self.temperature,
                self.temperature >= 0.0 && self.temperature.is_finite(),
                "0 (greedy) or a positive number",
            ),
            ("top-p", self.top_p, is_probability(self.top_p), probability),
            ("min-p", self.min_p, (0.0..=1.0).contains(&self.min_p), "a number from 0 to 1"),
            ("typical-p", self.typical_p, is_probability(self.typical_p), probability),
            (
                "repetition-penalty",
                self.repetition_penalty,
                self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite(),
                "a positive number, 1 for none",
            ),
            ("presence-penalty", self.presence_penalty, self.presence_penalty.is_finite(), finite),
            ("frequency-penalty", self.frequency_penalty, self.frequency_penalty.is_finite(), finite),
        ];
        match settings.into_iter().find(|&(_, _, is_valid, _)| !is_valid) {
            Some((key, value, _, expected)) => Err(SamplerError::Setting { key, value, expected }),
            None => Ok(()),
        }
    }
}

/// What one request asks of the logits, in addition to the settings that it shares with others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogitRules {
    /// Added to the logits of single tokens by id; −∞ forbids a token.
    pub bias: BTreeMap<u32, f32>,
    /// Number of new tokens before which the ids of `ends` are forbidden.
    pub min_tokens: usize,
    /// The ids that end texts. Those that the model has no logits for are ignored.
    pub ends: Vec<u32>,
}

impl LogitRules {
    /// Checks the values of the bias. Its ids are checked with the vocabulary: [`Sampler::check`](super::Sampler::check).
    ///
    /// # Errors
    /// If a bias is NaN or +∞.
    pub fn validate(&self) -> Result<(), SamplerError> {
        match self.bias.iter().find(|(_, value)| value.is_nan() || **value == f32::INFINITY) {
            Some((&id, &value)) => Err(SamplerError::Bias { id, value }),
            None => Ok(()),
        }
    }

    /// Checks that the bias names ids below `n_vocab` only.
    ///
    /// # Errors
    /// Names the highest id that cannot be drawn.
    pub fn check(&self, n_vocab: usize) -> Result<(), SamplerError> {
        match self.bias.last_key_value() {
            Some((&id, _)) if id as usize >= n_vocab => Err(SamplerError::UnknownToken { id, n_vocab }),
            _ => Ok(()),
        }
    }
}

/// A setting out of range, or logits that cannot be sampled.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
pub enum SamplerError {
    /// A setting is out of range.
    #[error("{key} is {value}: expected {expected}")]
    Setting {
        /// Name of the setting, as on the command line.
        key: &'static str,
        /// The value it was given.
        value: f32,
        /// The range that is accepted.
        expected: &'static str,
    },
    /// The bias of a token is NaN or +∞.
    #[error("the logit bias of token {id} is {value}: expected a finite number, or -inf to forbid the token")]
    Bias {
        /// The token that the bias is for.
        id: u32,
        /// The value it was given.
        value: f32,
    },
    /// A bias is set for an id that cannot be drawn.
    #[error("the logit bias names token {id}: expected an id below {n_vocab}, the number of tokens to draw from")]
    UnknownToken {
        /// The token that the bias is for.
        id: u32,
        /// Number of ids that can be drawn.
        n_vocab: usize,
    },
    /// A logit is NaN or +∞, or all are −∞.
    #[error("the model's logits are not finite: its weights are damaged, or its training diverged")]
    NotFinite,
    /// Bias and minimum length leave no token.
    #[error(
        "no token can be drawn: the logit bias and the minimum length forbid all that the model considers possible"
    )]
    NothingAllowed,
}
