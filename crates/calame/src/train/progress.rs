//! Where a training stands: what a checkpoint holds besides tensors.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::rng::torch::Script;

/// Where a training stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Steps done, those that were passed over too.
    pub n_steps: u64,
    /// The epoch under way, from 0.
    pub epoch: u64,
    /// Batches of it that are done.
    pub batch: usize,
    /// Tokens trained on.
    pub n_tokens_seen: u64,
    /// Whether what follows the last step (evaluation, sample) is done.
    pub settled: bool,
    /// What a run that follows a PyTorch script has drawn; none where random numbers are functions of seed and step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torch: Option<Script>,
    /// The best evaluation so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
    /// Steps whose batches were passed over without an update.
    #[serde(default)]
    pub n_skipped: u64,
    /// Of these, those since the last update.
    #[serde(default)]
    pub n_skipped_in_a_row: u64,
    /// Times that the training went back to a checkpoint.
    #[serde(default)]
    pub n_backs: u64,
    /// What is usual in the last steps, where gradients are looked at.
    #[serde(default)]
    pub usual: Usual,
}

/// An evaluation with the lowest validation loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// The step after which it was made, from 0.
    pub step: u64,
    /// Its validation loss, in nats a token.
    pub val_loss: f32,
    /// Evaluations since then.
    pub n_since: u64,
}

/// Losses and gradients' norms of the last steps, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usual {
    /// Losses, in nats a token.
    pub losses: VecDeque<f32>,
    /// Norms of whole gradients, before clipping.
    pub norms: VecDeque<f32>,
}
