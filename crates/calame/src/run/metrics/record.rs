//! A line of a run's metrics.

use serde::{Deserialize, Deserializer, Serialize};

/// A record: one line of `metrics.jsonl`.
///
/// Steps count from 0 over the whole run, epochs from 1.
/// `n_tokens_seen` counts the input tokens of all training steps so far, including the record's own step.
/// A non-finite loss is stored as `null` and read back as NaN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Record {
    /// A completed optimizer step.
    Step {
        /// Step number, from 0.
        step: u64,
        /// Epoch number, from 1.
        epoch: u64,
        /// Mean loss of the step, in nats per token.
        #[serde(deserialize_with = "null_as_nan")]
        loss: f32,
        /// Learning rate of the step.
        lr: f64,
        /// Norm of the whole gradient before clipping; absent if the optimizer updated layer by layer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grad_norm: Option<f32>,
        /// Number of input tokens trained on so far.
        n_tokens_seen: u64,
        /// Duration of the step in seconds.
        step_seconds: f64,
        /// Tokens of the step divided by its duration.
        tokens_per_second: f64,
    },
    /// Losses over some batches of each split, without dropout.
    Evaluation {
        /// The step after which it was made, from 0.
        step: u64,
        /// Epoch number, from 1.
        epoch: u64,
        /// Loss over training batches, in nats per token.
        #[serde(deserialize_with = "null_as_nan")]
        train_loss: f32,
        /// Loss over validation batches, in nats per token.
        #[serde(deserialize_with = "null_as_nan")]
        val_loss: f32,
        /// The validation loss in bits per byte of text, which are comparable between tokenizers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        val_bits_per_byte: Option<f32>,
        /// Number of input tokens trained on so far.
        n_tokens_seen: u64,
        /// Duration of the evaluation in seconds.
        seconds: f64,
    },
    /// A text that the model generated at the end of an epoch.
    Sample {
        /// The last step of the epoch, from 0.
        step: u64,
        /// Epoch number, from 1.
        epoch: u64,
        /// The prompt that the model continued.
        prompt: String,
        /// The prompt with the generated text.
        text: String,
    },
    /// How much of the last sample is copied from the training text; see [`memorisation`](crate::run::memorisation).
    Memorisation {
        /// The last step of the run, from 0.
        step: u64,
        /// The last epoch of the run, from 1.
        epoch: u64,
        /// Number of tokens that the model generated, without white space.
        n_tokens: usize,
        /// Number of generated tokens that are part of a copied run.
        n_copied: usize,
        /// Number of tokens in the longest copied passage, including those of the prompt.
        longest: usize,
        /// Text of the longest copied passage.
        passage: String,
    },
    /// The run has completed its last epoch.
    End {
        /// The last step of the run, from 0.
        step: u64,
        /// The last epoch of the run, from 1.
        epoch: u64,
        /// Total number of input tokens trained on.
        n_tokens_seen: u64,
        /// Running time in seconds of the program that completed the run, since its start or last resume.
        total_seconds: f64,
        /// The step of the best evaluation, if the run's model is the best one rather than the last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        best_step: Option<u64>,
        /// Validation loss of the best evaluation, in nats per token.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        best_val_loss: Option<f32>,
        /// Number of epochs trained: a fraction if the run ended inside one. Older programs did not write it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        n_epochs: Option<f64>,
    },
    /// A failed step, stored as `"event": "trouble"`.
    #[serde(rename = "trouble")]
    StepFault {
        /// Step number, from 0.
        step: u64,
        /// Epoch number, from 1.
        epoch: u64,
        /// Why the step failed, as a sentence without a full stop.
        what: String,
        /// What was done about it, as a phrase.
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
            | Self::StepFault { step, .. }
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
            | Self::StepFault { epoch, .. }
            | Self::Memorisation { epoch, .. }
            | Self::End { epoch, .. } => epoch,
        }
    }

    /// Number of input tokens trained on when the record was written; `None` for samples and their memorisation.
    pub fn n_tokens_seen(&self) -> Option<u64> {
        match *self {
            Self::Step { n_tokens_seen, .. }
            | Self::Evaluation { n_tokens_seen, .. }
            | Self::End { n_tokens_seen, .. } => Some(n_tokens_seen),
            Self::Sample { .. } | Self::Memorisation { .. } | Self::StepFault { .. } => None,
        }
    }
}

/// serde_json writes a non-finite float as `null`; a loss that was stored as `null` is read as NaN.
fn null_as_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
    Ok(Option::<f32>::deserialize(deserializer)?.unwrap_or(f32::NAN))
}
