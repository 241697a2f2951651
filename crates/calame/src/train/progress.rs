//! The position of a training: the part of a checkpoint besides the tensors.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::rng::torch::Script;

/// How far a training has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Completed steps, including skipped ones.
    pub n_steps: u64,
    /// The current epoch, from 0.
    pub epoch: u64,
    /// Number of completed batches in the current epoch.
    pub batch: usize,
    /// Number of tokens trained on so far.
    pub n_tokens_seen: u64,
    /// Whether everything that follows the last step (evaluation, sample) has been done.
    pub settled: bool,
    /// The generator of a run that follows a PyTorch script. `None` if random numbers are functions of seed and step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torch: Option<Script>,
    /// The best evaluation so far, with early stopping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
    /// Steps whose batches were skipped without an update.
    #[serde(default)]
    pub n_skipped: u64,
    /// Of these, the skipped steps since the last update.
    #[serde(default)]
    pub n_skipped_in_a_row: u64,
    /// Number of times the training rolled back to a checkpoint.
    #[serde(default, rename = "n_backs")]
    pub n_rollbacks: u64,
    /// Losses and gradient norms of the last steps, if the guard watches gradients.
    #[serde(default)]
    pub usual: Usual,
}

/// The evaluation with the lowest validation loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// The step after which it was made, from 0.
    pub step: u64,
    /// Its validation loss, in nats per token.
    pub val_loss: f32,
    /// Number of evaluations since then.
    pub n_since: u64,
}

/// Losses and gradient norms of the last steps, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usual {
    /// Losses, in nats per token.
    pub losses: VecDeque<f32>,
    /// Norms of the whole gradient, before clipping.
    pub norms: VecDeque<f32>,
}
