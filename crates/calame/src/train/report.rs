//! What a training tells of itself, and to whom.

use std::path::Path;
use std::time::Duration;

use super::Progress;
use super::guard::StepFault;
use crate::data::ShardError;
use crate::formats::CheckpointError;
use crate::model::Gpt;
use crate::ops::Device;

/// What one step gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// The step, from 0.
    pub step: u64,
    /// The epoch, from 1.
    pub epoch: u64,
    /// Its loss before the update: the mean over its tokens, or as `train.loss_average` says.
    pub loss: f32,
    /// The learning rate.
    pub lr: f64,
    /// The norm of the whole gradient, before clipping; None where the optimizer takes it layer by layer.
    pub grad_norm: Option<f32>,
    /// What was wrong with it, if no update was made.
    pub fault: Option<StepFault>,
    /// Tokens of the step.
    pub n_tokens: usize,
    /// Tokens trained on so far.
    pub n_tokens_seen: u64,
    /// How long it took.
    pub step_seconds: f64,
}

/// Losses over some batches of both splits, nothing dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvaluationReport {
    /// The step after which it was made, from 0.
    pub step: u64,
    /// The epoch, from 1.
    pub epoch: u64,
    /// Mean of the training batches' means.
    pub train_loss: f32,
    /// Mean of the validation batches' means.
    pub val_loss: f32,
    /// Tokens trained on so far.
    pub n_tokens_seen: u64,
    /// How long it took.
    pub seconds: f64,
}

/// How a training ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All epochs are done.
    Finished,
    /// Validation had not got better for as many evaluations as `early_stopping.patience`.
    StoppedEarly,
    /// It was asked to stop; its state is whole.
    Stopped,
    /// A step went bad, and nothing could be done about it; the weights are those before it.
    Diverged {
        /// The step, from 0.
        step: u64,
        /// What was wrong with it.
        fault: StepFault,
    },
    /// A step went bad, and the checkpoint to go back to could not be read to its end: weights and moments are of no use.
    Lost {
        /// The step, from 0.
        step: u64,
        /// What was wrong with it.
        fault: StepFault,
        /// What is wrong with the checkpoint.
        reason: String,
    },
}

/// Who follows a training: tells the time, asks it to stop, writes things down, samples.
pub trait Observer {
    /// What its methods may fail with, and what a training becomes whose tokens cannot be read any more.
    type Error: From<ShardError>;
    /// Time since some fixed moment.
    fn now(&mut self) -> Duration;
    /// Whether the training should end after the step under way.
    fn stop_requested(&mut self) -> bool;
    /// A step was made.
    ///
    /// # Errors
    /// Ends the training.
    fn step(&mut self, report: &StepReport) -> Result<(), Self::Error>;
    /// An evaluation was made.
    ///
    /// # Errors
    /// Ends the training.
    fn evaluation(&mut self, report: &EvaluationReport) -> Result<(), Self::Error>;
    /// An epoch (from 1) is done after `step`.
    ///
    /// # Errors
    /// Ends the training.
    fn epoch_end(&mut self, dev: &Device, gpt: &Gpt, epoch: u64, step: u64) -> Result<(), Self::Error>;
    /// A step went bad and its batch was passed over: the report says why.
    ///
    /// # Errors
    /// Ends the training.
    fn skipped(&mut self, report: &StepReport) -> Result<(), Self::Error> {
        let _ = report;
        Ok(())
    }
    /// A step went bad, and the training stands again where the checkpoint in `folder` was made.
    ///
    /// # Errors
    /// Ends the training.
    fn went_back(&mut self, report: &StepReport, folder: &Path, progress: &Progress) -> Result<(), Self::Error> {
        let _ = (report, folder, progress);
        Ok(())
    }
    /// The validation loss of the evaluation just reported is the lowest so far, and early stopping is on. The model is in
    /// this machine's memory. Whether it is kept: if it is not, as on a full disk, the best stays the one before.
    ///
    /// # Errors
    /// Ends the training.
    fn improved(&mut self, gpt: &Gpt, report: &EvaluationReport) -> Result<bool, Self::Error> {
        let _ = (gpt, report);
        Ok(true)
    }
    /// A checkpoint could not be written, or not be read when the training had to go back; those before it stand.
    fn checkpoint_failed(&mut self, error: &CheckpointError) {
        let _ = error;
    }
}
