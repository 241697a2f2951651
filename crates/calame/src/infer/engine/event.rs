//! What an engine reports.

use super::request::{FinishReason, SequenceId};
use crate::infer::error::GenerateError;
use crate::infer::sampler::TokenLogProb;

/// What happened to a sequence in a step.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// The sampler has drawn a new token.
    Token {
        /// The sequence that it belongs to.
        sequence: SequenceId,
        /// Its id; that of a token which ends the text is included.
        token: u32,
        /// Its log-probability and the most likely alternatives, if the request asked for them.
        log_probs: Option<TokenLogProbs>,
    },
    /// The sequence has ended; it is forgotten.
    Finished {
        /// Which sequence it was.
        sequence: SequenceId,
        /// A token, the requested length, or the context.
        reason: FinishReason,
    },
    /// The sequence cannot be continued; it is forgotten.
    Failed {
        /// Which sequence it was.
        sequence: SequenceId,
        /// Why its next token cannot be drawn.
        error: GenerateError,
    },
}

impl Event {
    /// Which sequence it is about.
    pub fn sequence(&self) -> SequenceId {
        let (Event::Token { sequence, .. } | Event::Finished { sequence, .. } | Event::Failed { sequence, .. }) = self;
        *sequence
    }
}

/// Log-probabilities at one position, under the model's own distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogProbs {
    /// That of the token that was drawn.
    pub chosen: f64,
    /// Those of the most likely tokens, in descending order.
    pub best: Vec<TokenLogProb>,
}

/// Numbers of an engine's sequences and pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineState {
    /// Sequences that have pages.
    pub n_running: usize,
    /// Sequences that wait for their turn.
    pub n_waiting: usize,
    /// Pages of the pool.
    pub n_pages: usize,
    /// Pages that no sequence has, apart from ended ones that are kept.
    pub n_free_pages: usize,
    /// How many times a sequence has lost its pages so far.
    pub n_preempted: u64,
    /// Drafted tokens that were tried.
    pub n_drafted: u64,
    /// Drafted tokens that the model confirmed.
    pub n_accepted: u64,
}
