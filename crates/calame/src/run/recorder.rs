//! The observer that writes a run folder: metrics, samples, plots, event files, the best model, the result.
//!
//! A [`Recorder`] never prints and has no clock of its own: the caller passes a clock and receives notice of everything
//! written through a [`RunListener`].

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::events::EventWriter;
use super::folder::{RunFolder, RunFolderError, RunLock};
use super::listener::{RunListener, Warnings};
use super::metrics::{self, MetricsError, MetricsWriter, Record};
use super::plot::{self, PlotError};
use crate::data::ShardError;
use crate::device::{Clock, Device};
use crate::formats::CheckpointError;
use crate::model::Gpt;
use crate::tokenizer::Tokenizer;
use crate::train::{EvaluationReport, Observer, Progress, RunConfig, StepReport, Trainer, clear_partial, save_best};

/// The plot is redrawn after an evaluation unless that would take more than 1/50 of the time. Drawing takes about 13
/// ms.
const PLOT_SHARE: u32 = 50;

/// Why a run folder cannot be written, or a training cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// The folder, its settings or its samples.
    #[error(transparent)]
    Folder(#[from] RunFolderError),
    /// The metrics file, `metrics.jsonl`.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// A checkpoint or the resulting model.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The loss plot, in any of its formats.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// Tokens of the text that can no longer be read.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// The sample generated after an epoch.
    #[error(transparent)]
    Sample(Box<dyn Error + Send + Sync>),
}

type SampleText = Box<dyn FnMut(&Device, &Gpt, &str) -> Result<String, Box<dyn Error + Send + Sync>>>;

/// Event files for TensorBoard.
struct Events {
    /// The time since 1970, for the events' time stamps.
    wall_time: Clock,
    host: String,
    /// The current file; `None` after an error.
    writer: Option<EventWriter>,
}

/// Writes a run folder while a trainer runs, and the model at the end.
///
/// ```no_run
/// # use calame::run::Recorder;
/// # use calame::train::{RunConfig, Splits, Trainer};
/// # fn example(config: RunConfig, splits: Splits, dev: calame::device::Device) -> Result<(), Box<dyn std::error::Error>> {
/// let tokenizer = config.tokenizer.build("")?;
/// let mut trainer = Trainer::fresh(&dev, &config, splits);
/// let start = std::time::Instant::now();
/// let clock = Box::new(move || start.elapsed());
/// let mut recorder = Recorder::create("runs/first".as_ref(), &config, tokenizer, false, clock)?;
/// recorder.train(&mut trainer)?;
/// recorder.listener().texts().iter().for_each(|warning| eprintln!("{warning}"));
/// # Ok(())
/// # }
/// ```
pub struct Recorder<L = Warnings> {
    pub(super) folder: RunFolder,
    /// Prevents other programs from training in the folder.
    lock: RunLock,
    pub(super) metrics: MetricsWriter,
    pub(super) tokenizer: Arc<dyn Tokenizer>,
    clock: Clock,
    /// Number of steps completed before the recorder was created.
    n_steps_before: u64,
    samples: Option<(String, SampleText)>,
    events: Option<Events>,
    /// When the plot was last drawn, and how long drawing took.
    last_plot: (Duration, Duration),
    pub(super) listener: L,
}

impl Recorder {
    /// Creates the recorder of a new run and its folder with settings and tokenizer. An existing run is replaced only
    /// if `overwrite` is set. `clock` returns the time since any fixed moment.
    ///
    /// # Errors
    /// If `path` already exists or is in use, or the system refuses.
    pub fn create(
        path: &Path,
        config: &RunConfig,
        tokenizer: Arc<dyn Tokenizer>,
        overwrite: bool,
        clock: Clock,
    ) -> Result<Recorder, RecorderError> {
        Recorder::create_locked(path, RunLock::acquire(path)?, config, tokenizer, overwrite, clock)
    }

    /// As [`create`](Recorder::create), for a path that is locked already: a program that checks or downloads something
    /// first locks the path before that.
    ///
    /// # Errors
    /// As [`create`](Recorder::create).
    pub fn create_locked(
        path: &Path,
        lock: RunLock,
        config: &RunConfig,
        tokenizer: Arc<dyn Tokenizer>,
        overwrite: bool,
        clock: Clock,
    ) -> Result<Recorder, RecorderError> {
        let (folder, lock) = RunFolder::create_locked(path, lock, config, &tokenizer.to_json(), overwrite)?;
        let metrics = MetricsWriter::create(&folder.metrics())?;
        Ok(Recorder::over(folder, lock, metrics, tokenizer, 0, clock))
    }

    /// Creates the recorder of a stopped run: restores the trainer from `checkpoint`, writes its settings into the
    /// folder, and drops records and samples of later steps, which will be repeated.
    ///
    /// # Errors
    /// If the checkpoint does not fit the trainer, or the system refuses.
    pub fn resume(
        folder: RunFolder,
        lock: RunLock,
        checkpoint: &Path,
        trainer: &mut Trainer<'_>,
        tokenizer: Arc<dyn Tokenizer>,
        clock: Clock,
    ) -> Result<Recorder, RecorderError> {
        clear_partial(&folder.checkpoints())?;
        trainer.resume(checkpoint)?;
        let metrics = MetricsWriter::open_at_step(&folder.metrics(), trainer.progress())?;
        folder.write_config(trainer.config())?;
        folder.rewrite_samples(&metrics::read(&folder.metrics())?)?;
        Ok(Recorder::over(folder, lock, metrics, tokenizer, trainer.progress().n_steps, clock))
    }

    fn over(
        folder: RunFolder,
        lock: RunLock,
        metrics: MetricsWriter,
        tokenizer: Arc<dyn Tokenizer>,
        n_steps_before: u64,
        clock: Clock,
    ) -> Recorder {
        let last_plot = (clock(), Duration::ZERO);
        Recorder {
            folder,
            lock,
            metrics,
            tokenizer,
            clock,
            n_steps_before,
            samples: None,
            events: None,
            last_plot,
            listener: Warnings::default(),
        }
    }
}

impl<L> Recorder<L> {
    /// The same recorder with another listener.
    pub fn with_listener<M: RunListener>(self, listener: M) -> Recorder<M> {
        let Recorder { folder, lock, metrics, tokenizer, clock, n_steps_before, samples, events, last_plot, .. } = self;
        Recorder { folder, lock, metrics, tokenizer, clock, n_steps_before, samples, events, last_plot, listener }
    }

    /// Writes a sample after every epoch: `continue_prompt` returns `prompt` with its continuation, for example by
    /// calling `calame::infer::generate_text`.
    #[must_use]
    pub fn with_samples<E: Into<Box<dyn Error + Send + Sync>>>(
        mut self,
        prompt: &str,
        mut continue_prompt: impl FnMut(&Device, &Gpt, &str) -> Result<String, E> + 'static,
    ) -> Recorder<L> {
        let sample: SampleText =
            Box::new(move |dev, gpt, prompt| continue_prompt(dev, gpt, prompt).map_err(Into::into));
        self.samples = Some((prompt.to_owned(), sample));
        self
    }

    /// Folder of the run being recorded.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// Tokenizer of the run being recorded.
    pub fn tokenizer(&self) -> &Arc<dyn Tokenizer> {
        &self.tokenizer
    }

    /// Number of steps completed before this recorder was created.
    pub fn n_steps_before(&self) -> u64 {
        self.n_steps_before
    }

    /// The listener, for reading what it has collected.
    pub fn listener(&self) -> &L {
        &self.listener
    }

    /// The listener, for changing it.
    pub fn listener_mut(&mut self) -> &mut L {
        &mut self.listener
    }

    /// Draws the loss plot from the metrics written so far.
    ///
    /// # Errors
    /// If there is no evaluation with a finite loss yet, or the system refuses.
    pub fn draw(&self) -> Result<(), RecorderError> {
        let records = metrics::read(&self.folder.metrics())?;
        plot::draw(&records, None, self.folder.path())?;
        Ok(())
    }
}

impl<L: RunListener> Recorder<L> {
    /// Writes a record to the metrics and event files.
    ///
    /// # Errors
    /// If the metrics cannot be written; a failure of the event files is only a warning.
    pub fn record(&mut self, record: &Record) -> Result<(), RecorderError> {
        self.persist_file("the metrics", |recorder| Ok(recorder.metrics.write(record)?))?;
        if let Some(Events { wall_time, writer, .. }) = &mut self.events
            && let Some(events) = writer
            && let Err(error) = events.write(record, wall_time())
        {
            *writer = None;
            self.listener.warning(&format!("{error}; no more events are written; the training continues"));
        }
        self.listener.record(record);
        Ok(())
    }

    /// Writes the sample of an epoch (from 1) that ended with `step`; `text` starts with `prompt`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add_sample(&mut self, epoch: u64, step: u64, prompt: &str, text: String) -> Result<(), RecorderError> {
        self.persist_file("the sample", |recorder| Ok(recorder.folder.add_sample(epoch, &text)?))?;
        self.record(&Record::Sample { step, epoch, prompt: prompt.to_owned(), text })
    }

    /// Starts writing event files for TensorBoard. `wall_time` returns the time since 1970; `host` is the machine name
    /// that TensorBoard shows. A failure is only a warning.
    pub fn write_events(&mut self, wall_time: Clock, host: &str) {
        self.events = Some(Events { wall_time, host: host.to_owned(), writer: None });
        self.begin_events(self.n_steps_before);
    }

    /// Starts a new event file, which invalidates events of later steps in older files.
    fn begin_events(&mut self, n_steps: u64) {
        let Some(Events { wall_time, host, writer }) = &mut self.events else { return };
        match EventWriter::create(&self.folder.tensorboard(), wall_time(), host, n_steps) {
            Ok(events) => *writer = Some(events),
            Err(error) => self.listener.warning(&format!("{error}; the training continues")),
        }
    }

    /// Seconds on the recorder's clock.
    pub fn seconds(&self) -> f64 {
        (self.clock)().as_secs_f64()
    }

    /// Writes the record of a failed step.
    fn record_fault(&mut self, report: &StepReport, remedy: &str) -> Result<(), RecorderError> {
        let StepReport { step, epoch, fault, .. } = *report;
        let what = fault.map(|fault| fault.to_string()).unwrap_or_default();
        self.listener.warning(&format!("step {step}: {what}; {remedy}"));
        self.record(&Record::StepFault { step, epoch, what, remedy: remedy.to_owned() })
    }

    /// Redraws the plot unless this was done recently. A failure is only a warning.
    fn refresh_plot(&mut self) {
        let (last, cost) = self.last_plot;
        let start = (self.clock)();
        if start.saturating_sub(last) < cost * PLOT_SHARE {
            return;
        }
        let drawn = self.draw();
        let end = (self.clock)();
        self.last_plot = (end, end.saturating_sub(start));
        match drawn {
            Err(error) if !is_nothing_to_draw(&error) => {
                self.listener.warning(&format!("{error}; the training continues"));
            }
            _ => {}
        }
    }
}

impl<L: RunListener> Observer for Recorder<L> {
    type Error = RecorderError;

    fn now(&mut self) -> Duration {
        (self.clock)()
    }

    fn stop_requested(&mut self) -> bool {
        self.listener.stop_requested()
    }

    fn step(&mut self, report: &StepReport) -> Result<(), RecorderError> {
        let StepReport { step, epoch, loss, lr, grad_norm, n_tokens, n_tokens_seen, step_seconds, .. } = *report;
        // A clock may be too coarse for a short step, and JSON has no infinity.
        let tokens_per_second = if step_seconds > 0.0 { n_tokens as f64 / step_seconds } else { 0.0 };
        self.record(&Record::Step { step, epoch, loss, lr, grad_norm, n_tokens_seen, step_seconds, tokens_per_second })
    }

    fn evaluation(&mut self, report: &EvaluationReport) -> Result<(), RecorderError> {
        let EvaluationReport { step, epoch, train_loss, val_loss, val_bits_per_byte, n_tokens_seen, seconds } = *report;
        self.record(&Record::Evaluation {
            step,
            epoch,
            train_loss,
            val_loss,
            val_bits_per_byte,
            n_tokens_seen,
            seconds,
        })?;
        self.refresh_plot();
        Ok(())
    }

    fn epoch_end(&mut self, dev: &Device, gpt: &Gpt, epoch: u64, step: u64) -> Result<(), RecorderError> {
        let Some((prompt, continue_prompt)) = &mut self.samples else { return Ok(()) };
        let text = continue_prompt(dev, gpt, prompt).map_err(RecorderError::Sample)?;
        let prompt = prompt.clone();
        self.add_sample(epoch, step, &prompt, text)
    }

    fn skipped(&mut self, report: &StepReport) -> Result<(), RecorderError> {
        self.record_fault(report, "its batch is skipped")
    }

    fn rolled_back(&mut self, report: &StepReport, folder: &Path, progress: &Progress) -> Result<(), RecorderError> {
        // What was measured after the checkpoint will be measured again.
        self.metrics = MetricsWriter::open_at_step(&self.folder.metrics(), progress)?;
        let records = metrics::read(&self.folder.metrics())?;
        self.folder.rewrite_samples(&records)?;
        self.listener.rolled_back(&records, progress.n_steps);
        if self.events.as_ref().is_some_and(|events| events.writer.is_some()) {
            self.begin_events(progress.n_steps);
        }
        self.record_fault(report, &format!("resuming from {} with a smaller learning rate", folder.display()))
    }

    fn improved(&mut self, gpt: &Gpt, report: &EvaluationReport) -> Result<bool, RecorderError> {
        if gpt.rank() > 0 {
            return Ok(true);
        }
        let saved = save_best(&self.folder.checkpoints(), gpt, self.tokenizer.as_ref(), report.step);
        if let Err(error) = &saved {
            self.listener.warning(&format!(
                "{error}; this best model is not saved, the previous one is kept; the training continues"
            ));
        }
        Ok(saved.is_ok())
    }

    fn checkpoint_failed(&mut self, error: &CheckpointError) {
        self.listener
            .warning(&format!("{error}; no checkpoint was written, earlier ones are kept; the training continues"));
    }
}

impl<L> fmt::Debug for Recorder<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("folder", &self.folder).field("lock", &self.lock).finish_non_exhaustive()
    }
}

/// Whether the plot was not drawn for lack of data, rather than because of an error.
pub(super) fn is_nothing_to_draw(error: &RecorderError) -> bool {
    matches!(error, RecorderError::Plot(error) if !matches!(error, PlotError::Io { .. }))
}
