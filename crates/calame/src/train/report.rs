//! What a trainer reports, and the trait that receives it.

use std::path::Path;
use std::time::Duration;

use super::Progress;
use super::guard::StepFault;
use crate::data::ShardError;
use crate::formats::CheckpointError;
use crate::model::Gpt;
use crate::ops::Device;

/// The result of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Step number, from 0.
    pub step: u64,
    /// Epoch number, from 1.
    pub epoch: u64,
    /// Loss before the update, in nats per token, averaged according to `train.loss_average`.
    pub loss: f32,
    /// Learning rate of the step.
    pub lr: f64,
    /// Norm of the whole gradient before clipping; `None` if the optimizer updates layer by layer.
    pub grad_norm: Option<f32>,
    /// Why the step failed, if no update was made.
    pub fault: Option<StepFault>,
    /// Number of tokens in the step.
    pub n_tokens: usize,
    /// Number of tokens trained on so far.
    pub n_tokens_seen: u64,
    /// Duration of the step in seconds.
    pub step_seconds: f64,
}

/// Losses over some batches of both splits, without dropout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvaluationReport {
    /// The step after which it was made, from 0.
    pub step: u64,
    /// Epoch number, from 1.
    pub epoch: u64,
    /// Mean of the training batches' mean losses, in nats per token.
    pub train_loss: f32,
    /// Mean of the validation batches' mean losses, in nats per token.
    pub val_loss: f32,
    /// The validation loss in bits per byte of text, if the bytes per token are known; see [`bits_per_byte`](super::bits_per_byte).
    pub val_bits_per_byte: Option<f32>,
    /// Number of tokens trained on so far.
    pub n_tokens_seen: u64,
    /// Duration of the evaluation in seconds.
    pub seconds: f64,
}

/// How a training ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All epochs have been completed.
    Finished,
    /// Validation has not improved for `early_stopping.patience` evaluations.
    StoppedEarly,
    /// The observer requested a stop; the state is complete.
    Stopped,
    /// A step failed without a remedy; the weights are those before it.
    Diverged {
        /// Number of the failed step, from 0.
        step: u64,
        /// Why the step failed.
        fault: StepFault,
    },
    /// A step failed, and the checkpoint to roll back to could not be read completely; weights and moments are invalid.
    Lost {
        /// Number of the failed step, from 0.
        step: u64,
        /// Why the step failed.
        fault: StepFault,
        /// Why the checkpoint could not be read.
        reason: String,
    },
}

/// Follows a training: provides the time, requests stops, records reports and generates samples.
pub trait Observer {
    /// The error of its methods; also returned if a token file can no longer be read.
    type Error: From<ShardError>;
    /// Time since some fixed moment.
    fn now(&mut self) -> Duration;
    /// Whether the training should stop after the current step.
    fn stop_requested(&mut self) -> bool;
    /// Called after a successful step.
    ///
    /// # Errors
    /// An error ends the training.
    fn step(&mut self, report: &StepReport) -> Result<(), Self::Error>;
    /// Called after an evaluation.
    ///
    /// # Errors
    /// An error ends the training.
    fn evaluation(&mut self, report: &EvaluationReport) -> Result<(), Self::Error>;
    /// Called at the end of an epoch (from 1), after `step`.
    ///
    /// # Errors
    /// An error ends the training.
    fn epoch_end(&mut self, dev: &Device, gpt: &Gpt, epoch: u64, step: u64) -> Result<(), Self::Error>;
    /// Called when a step has failed and its batch was skipped; the report contains the fault.
    ///
    /// # Errors
    /// An error ends the training.
    fn skipped(&mut self, report: &StepReport) -> Result<(), Self::Error> {
        let _ = report;
        Ok(())
    }
    /// Called when a step has failed and the training was rolled back to the checkpoint in `folder`, at position
    /// `progress`.
    ///
    /// # Errors
    /// An error ends the training.
    fn rolled_back(&mut self, report: &StepReport, folder: &Path, progress: &Progress) -> Result<(), Self::Error> {
        let _ = (report, folder, progress);
        Ok(())
    }
    /// Called with early stopping when the evaluation just reported has the lowest validation loss so far. The model is
    /// in host memory. Returns whether the model was saved; if not, for example because the disk is full, the previous
    /// best is kept.
    ///
    /// # Errors
    /// An error ends the training.
    fn improved(&mut self, gpt: &Gpt, report: &EvaluationReport) -> Result<bool, Self::Error> {
        let _ = (gpt, report);
        Ok(true)
    }
    /// Called when a checkpoint could not be written, or could not be read for a rollback; earlier ones are intact.
    fn checkpoint_failed(&mut self, error: &CheckpointError) {
        let _ = error;
    }
}
