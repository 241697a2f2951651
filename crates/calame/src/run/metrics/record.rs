//! One line of a run's metrics.

use serde::{Deserialize, Deserializer, Serialize};

/// One line of `metrics.jsonl`.
///
/// Steps count from 0 over the whole run, epochs from 1.
/// `n_tokens_seen` counts the input tokens of all training steps so far, the record's own step included.
/// A loss that is not finite is stored as `null` and read back as NaN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Record {
    /// One optimizer update.
    Step {
        /// The step, from 0.
        step: u64,
        /// The epoch, from 1.
        epoch: u64,
        /// Mean loss of the step's tokens, in nats.
        #[serde(deserialize_with = "null_as_nan")]
        loss: f32,
        /// Learning rate of this update.
        lr: f64,
        /// Norm of the whole gradient before clipping; absent where the optimizer took it layer by layer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grad_norm: Option<f32>,
        /// Input tokens trained on so far.
        n_tokens_seen: u64,
        /// Seconds that the step took.
        step_seconds: f64,
        /// Tokens of the step divided by its seconds.
        tokens_per_second: f64,
    },
    /// Losses over some batches of each split, dropout off.
    Evaluation {
        /// The step after which it was taken.
        step: u64,
        /// The epoch, from 1.
        epoch: u64,
        /// Loss over training batches, in nats a token.
        #[serde(deserialize_with = "null_as_nan")]
        train_loss: f32,
        /// Loss over validation batches, in nats a token.
        #[serde(deserialize_with = "null_as_nan")]
        val_loss: f32,
        /// Input tokens trained on so far.
        n_tokens_seen: u64,
        /// Seconds that the evaluation took.
        seconds: f64,
    },
    /// A text that the model wrote at the end of an epoch.
    Sample {
        /// The last step of the epoch.
        step: u64,
        /// The epoch, from 1.
        epoch: u64,
        /// What the model was given.
        prompt: String,
        /// The prompt and what the model added.
        text: String,
    },
    /// How much of the last sample stands word for word in the training text; see [`memorisation`](crate::run::memorisation).
    Memorisation {
        /// The last step.
        step: u64,
        /// The last epoch.
        epoch: u64,
        /// Tokens that the model added to the prompt.
        n_tokens: usize,
        /// Those of them that lie in a copied run.
        n_copied: usize,
        /// Tokens of the longest copied passage, the prompt's included.
        longest: usize,
        /// That passage.
        passage: String,
    },
    /// The run has done all its epochs.
    End {
        /// The last step.
        step: u64,
        /// The last epoch.
        epoch: u64,
        /// Input tokens trained on in all.
        n_tokens_seen: u64,
        /// Seconds that the program ran which brought the run to its end: since its start, or its last resume.
        total_seconds: f64,
        /// The step whose evaluation was the best, where the run's model is the one that it was made of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        best_step: Option<u64>,
        /// Its validation loss, in nats a token.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        best_val_loss: Option<f32>,
    },
    /// A step that went bad.
    Trouble {
        /// The step, from 0.
        step: u64,
        /// The epoch, from 1.
        epoch: u64,
        /// What was wrong with it.
        what: String,
        /// What was done about it.
        remedy: String,
    },
}

impl Record {
    /// The step that the record belongs to, from 0.
    pub fn step(&self) -> u64 {
        match *self {
            Self::Step { step, .. }
            | Self::Evaluation { step, .. }
            | Self::Sample { step, .. }
            | Self::Trouble { step, .. }
            | Self::Memorisation { step, .. }
            | Self::End { step, .. } => step,
        }
    }

    /// The epoch that the record belongs to, from 1.
    pub fn epoch(&self) -> u64 {
        match *self {
            Self::Step { epoch, .. }
            | Self::Evaluation { epoch, .. }
            | Self::Sample { epoch, .. }
            | Self::Trouble { epoch, .. }
            | Self::Memorisation { epoch, .. }
            | Self::End { epoch, .. } => epoch,
        }
    }

    /// Input tokens trained on when the record was written; a sample and what is found in it do not say.
    pub fn n_tokens_seen(&self) -> Option<u64> {
        match *self {
            Self::Step { n_tokens_seen, .. }
            | Self::Evaluation { n_tokens_seen, .. }
            | Self::End { n_tokens_seen, .. } => Some(n_tokens_seen),
            Self::Sample { .. } | Self::Memorisation { .. } | Self::Trouble { .. } => None,
        }
    }
}

/// serde_json writes a float that is not finite as `null`; a loss that was there but not finite reads as NaN.
fn null_as_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
    Ok(Option::<f32>::deserialize(deserializer)?.unwrap_or(f32::NAN))
}
