//! How a recorded training ends: the result and the last state, the state of a stopped run, the record of a failure.
//!
//! What exists only in memory is not given up because of the disk: old checkpoints make space for it, and then the
//! listener decides how long to keep trying.

use super::listener::RunListener;
use super::metrics::Record;
use super::recorder::{Recorder, RecorderError, is_nothing_to_draw};
use crate::formats::save_model;
use crate::train::{
    Best, Checkpoints, Observer, Outcome, Progress, StepFault, Trainer, free_checkpoint, is_disk_full, system_error,
    take_best,
};

/// The errors after which a write is tried again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Retried {
    /// Only if the disk is full: the file is one that the training continues without.
    DiskFull,
    /// After every error of the system: the data exists nowhere else.
    OnlyCopy,
}

impl<L: RunListener> Recorder<L> {
    /// Trains to the end and writes the result; if the listener requests a stop, writes the state to resume from
    /// instead. A training that diverges leaves its last checkpoint and a record of the failed step.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn train(&mut self, trainer: &mut Trainer<'_>) -> Result<Outcome, RecorderError> {
        let mut checkpoints = Checkpoints::new(&self.folder.checkpoints(), &trainer.config().checkpoint);
        let outcome = trainer.run_saving(&mut checkpoints, self)?;
        match &outcome {
            Outcome::Finished | Outcome::StoppedEarly => {
                if let Err(error) = checkpoints.wait() {
                    // The result is saved next, so no checkpoint is needed.
                    self.checkpoint_failed(&error);
                }
                self.finish(trainer)?;
            }
            Outcome::Stopped => self.save_state(trainer, &mut checkpoints)?,
            Outcome::Diverged { step, fault } | Outcome::Lost { step, fault, .. } => {
                self.ended_by(trainer, *step, *fault)?;
            }
        }
        Ok(outcome)
    }

    /// Writes the result of a completed training, the last record, the last state and the plot. Returns the evaluation
    /// of the saved model if it is not the last one.
    ///
    /// # Errors
    /// If the folder cannot be written; the checkpoints are kept in that case.
    pub fn finish(&mut self, trainer: &Trainer<'_>) -> Result<Option<Best>, RecorderError> {
        let total_seconds = self.seconds();
        let best = self.save_result(trainer)?;
        self.end(trainer, best, total_seconds)?;
        if is_plain(trainer) {
            self.keep_last_state(trainer)?;
        } else {
            let mut checkpoints = Checkpoints::new(&self.folder.checkpoints(), &trainer.config().checkpoint);
            self.save_state(trainer, &mut checkpoints)?;
            self.listener.warning(&format!(
                "adapters, and a head of the objective, are in {}: a saved model does not hold them",
                self.folder.checkpoints().display()
            ));
        }
        match self.draw() {
            Err(error) if is_nothing_to_draw(&error) => {}
            drawn => drawn?,
        }
        Ok(best)
    }

    /// Saves the resulting model: with early stopping that of the best evaluation, which is returned, otherwise the
    /// last. A model with adapters is in the checkpoints only.
    ///
    /// # Errors
    /// If the model cannot be written, and the listener does not want to try again.
    pub fn save_result(&mut self, trainer: &Trainer<'_>) -> Result<Option<Best>, RecorderError> {
        let (checkpoints, model) = (self.folder.checkpoints(), self.folder.model());
        let best = trainer.progress().best.filter(|_| trainer.config().early_stopping.is_on());
        if trainer.gpt().rank() > 0 {
            return Ok(None);
        }
        if let Some(best) = best {
            take_best(&checkpoints, best.step, &model)?;
            return Ok(Some(best));
        }
        let gpt = trainer.gpt().on_host(trainer.device());
        let n_steps = trainer.progress().n_steps;
        self.persist("the model", Retried::OnlyCopy, |recorder| {
            loop {
                match save_model(&model, &gpt, Some(recorder.tokenizer.as_ref())) {
                    Err(error) if is_disk_full(&error) && free_checkpoint(&checkpoints, n_steps)? => {}
                    saved => return Ok(saved?),
                }
            }
        })?;
        Ok(None)
    }

    /// Writes the record of the run's end. `best` is the evaluation of the saved model if it is not the last one;
    /// `total_seconds` is the duration of the training.
    ///
    /// # Errors
    /// If the record cannot be written.
    pub fn end(&mut self, trainer: &Trainer<'_>, best: Option<Best>, total_seconds: f64) -> Result<(), RecorderError> {
        let Progress { n_steps, epoch, n_tokens_seen, .. } = *trainer.progress();
        let n_epochs = Some(n_steps as f64 / trainer.steps_per_epoch().max(1) as f64);
        let (step, epoch) = (n_steps.saturating_sub(1), epoch + 1);
        let (best_step, best_val_loss) = (best.map(|best| best.step), best.map(|best| best.val_loss));
        self.record(&Record::End { step, epoch, n_tokens_seen, total_seconds, best_step, best_val_loss, n_epochs })
    }

    /// Replaces the checkpoints of a training whose result is saved by its last state, from which more epochs can be
    /// trained, if `checkpoint.at_end` is set. A state that cannot be written is only a warning.
    ///
    /// # Errors
    /// If the old checkpoints cannot be removed.
    pub fn keep_last_state(&mut self, trainer: &Trainer<'_>) -> Result<(), RecorderError> {
        self.folder.remove_checkpoints()?;
        if !trainer.config().checkpoint.at_end {
            return Ok(());
        }
        if let Err(error) = trainer.save(&self.folder.checkpoints()) {
            self.folder.remove_checkpoints()?;
            self.listener.warning(&format!("{error}; the model is saved, but no epochs can be added to this run"));
        }
        Ok(())
    }

    /// Saves the state of a stopped training and waits until it is complete.
    ///
    /// # Errors
    /// If it cannot be written, and the listener does not want to try again; earlier checkpoints are intact.
    pub fn save_state(&mut self, trainer: &Trainer<'_>, checkpoints: &mut Checkpoints) -> Result<(), RecorderError> {
        // The result of the previous checkpoint no longer matters once this one is complete.
        if let Err(error) = checkpoints.wait() {
            self.checkpoint_failed(&error);
        }
        self.persist("the state of the training", Retried::OnlyCopy, |_| {
            checkpoints.save(&trainer.savable())?;
            Ok(checkpoints.wait()?)
        })?;
        Ok(self.metrics.sync()?)
    }

    /// Writes the record of the failed step that ended the training.
    ///
    /// # Errors
    /// If the record cannot be written.
    pub fn ended_by(&mut self, trainer: &Trainer<'_>, step: u64, fault: StepFault) -> Result<(), RecorderError> {
        let (epoch, remedy) = (trainer.progress().epoch + 1, "the training ended".to_owned());
        self.record(&Record::StepFault { step, epoch, what: fault.to_string(), remedy })?;
        Ok(self.metrics.sync()?)
    }

    /// Writes a file of the run, again and again while the disk is full and the listener wants to continue. `write`
    /// must leave nothing behind when it fails.
    pub(super) fn persist_file(
        &mut self,
        what: &str,
        write: impl FnMut(&mut Recorder<L>) -> Result<(), RecorderError>,
    ) -> Result<(), RecorderError> {
        self.persist(what, Retried::DiskFull, write)
    }

    fn persist(
        &mut self,
        what: &str,
        retried: Retried,
        mut write: impl FnMut(&mut Recorder<L>) -> Result<(), RecorderError>,
    ) -> Result<(), RecorderError> {
        loop {
            let Err(error) = write(self) else { return Ok(()) };
            let is_only_copy = retried == Retried::OnlyCopy && system_error(&error).is_some();
            let is_retried = is_only_copy || is_disk_full(&error);
            if !is_retried || !self.listener.write_failed(what, &error.to_string()) {
                return Err(error);
            }
        }
    }
}

/// Whether a saved model holds everything that was trained.
fn is_plain(trainer: &Trainer<'_>) -> bool {
    trainer.objective().head().is_none() && trainer.gpt().rank() == 0
}
