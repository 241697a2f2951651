//! The observer of `calame train`: passes events to the recorder, which writes the run's folder, and writes the
//! samples.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use calame::formats::CheckpointError;
use calame::infer::{Generation, GenerationLimits, Sampler, SamplerConfig};
use calame::model::Gpt;
use calame::ops::Device;
use calame::run::{Recorder, RecorderError, metrics};
use calame::tokenizer::{Special, Tokenizer};
use calame::train::{EvaluationReport, Observer, Progress, SampleConfig, StepReport};

use crate::ui::display::Display;
use crate::ui::tui::Screen;

/// Observes a training: a recorder with a display for its listener, and what the end of the training needs to know.
pub struct Follower {
    pub recorder: Recorder<Display>,
    pub sample: SampleConfig,
    /// The tokens of the last sample, and how many of them are the prompt.
    last_sample: Option<(Vec<u32>, usize)>,
}

impl Follower {
    pub fn new(recorder: Recorder, sample: SampleConfig, display: Display) -> Follower {
        Follower { recorder: recorder.with_listener(display), sample, last_sample: None }
    }

    pub fn display(&mut self) -> &mut Display {
        self.recorder.listener_mut()
    }

    /// Prints a line above the progress bar.
    pub fn line(&mut self, text: &str) {
        self.display().line(text);
    }

    /// Prints a line that is part of the result, so that `-q` does not hide it.
    pub fn result(&mut self, text: &str) {
        self.display().result(text);
    }

    /// Lets the recorder write event files for TensorBoard.
    pub fn write_events(&mut self) {
        self.recorder.write_events(Box::new(wall_time), &host_name());
    }

    /// Shows a dashboard, which starts with the records of the run so far.
    ///
    /// # Errors
    /// If the records cannot be read, or the terminal cannot be used.
    pub fn show_dashboard(&mut self, mut screen: Screen) -> Result<()> {
        metrics::read(&self.recorder.folder().metrics())?.iter().for_each(|record| screen.add(record));
        self.display().show_dashboard(screen)
    }

    /// The tokens of the last sample and how many of them are the prompt, if this program has written a sample.
    pub fn last_sample(&self) -> Option<&(Vec<u32>, usize)> {
        self.last_sample.as_ref()
    }
}

impl Observer for Follower {
    type Error = anyhow::Error;

    fn now(&mut self) -> Duration {
        self.recorder.now()
    }

    fn stop_requested(&mut self) -> bool {
        self.recorder.stop_requested()
    }

    fn step(&mut self, report: &StepReport) -> Result<()> {
        self.recorder.step(report).map_err(unwrapped)
    }

    fn evaluation(&mut self, report: &EvaluationReport) -> Result<()> {
        self.recorder.evaluation(report).map_err(unwrapped)
    }

    fn epoch_end(&mut self, dev: &Device, gpt: &Gpt, epoch: u64, step: u64) -> Result<()> {
        if self.sample.max_tokens == 0 {
            return Ok(());
        }
        let (tokens, n_prompt) = sample_tokens(dev, gpt, self.recorder.tokenizer().as_ref(), &self.sample)?;
        let text = self.recorder.tokenizer().decode(&tokens)?;
        self.last_sample = Some((tokens, n_prompt));
        self.recorder.add_sample(epoch, step, &self.sample.prompt, text).map_err(unwrapped)
    }

    fn skipped(&mut self, report: &StepReport) -> Result<()> {
        self.recorder.skipped(report).map_err(unwrapped)
    }

    fn rolled_back(&mut self, report: &StepReport, folder: &Path, progress: &Progress) -> Result<()> {
        self.recorder.rolled_back(report, folder, progress).map_err(unwrapped)
    }

    fn improved(&mut self, gpt: &Gpt, report: &EvaluationReport) -> Result<bool> {
        self.recorder.improved(gpt, report).map_err(unwrapped)
    }

    fn checkpoint_failed(&mut self, error: &CheckpointError) {
        self.recorder.checkpoint_failed(error);
    }
}

/// Unwraps the cause of a recorder's error: hints and exit codes depend on its type.
pub fn unwrapped(error: RecorderError) -> anyhow::Error {
    match error {
        RecorderError::Folder(error) => error.into(),
        RecorderError::Metrics(error) => error.into(),
        RecorderError::Checkpoint(error) => error.into(),
        RecorderError::Plot(error) => error.into(),
        RecorderError::Shard(error) => error.into(),
        RecorderError::Sample(error) => anyhow::Error::from_boxed(error),
    }
}

/// The time since 1970-01-01 UTC, for event files.
fn wall_time() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(unix)]
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn host_name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_else(|_| "localhost".to_owned())
}

/// The sample that a training writes after an epoch: the prompt, continued greedily.
///
/// # Errors
/// If the prompt cannot be encoded or continued.
pub fn sample_text(dev: &Device, gpt: &Gpt, tokenizer: &dyn Tokenizer, sample: &SampleConfig) -> Result<String> {
    Ok(tokenizer.decode(&sample_tokens(dev, gpt, tokenizer, sample)?.0)?)
}

/// The tokens of the sample, and how many of them are the prompt.
///
/// # Errors
/// If the prompt cannot be encoded or continued.
pub fn sample_tokens(
    dev: &Device,
    gpt: &Gpt,
    tokenizer: &dyn Tokenizer,
    sample: &SampleConfig,
) -> Result<(Vec<u32>, usize)> {
    let prompt = tokenizer.encode(&sample.prompt, Special::Allow)?;
    let sampler = Sampler::for_tokenizer(&SamplerConfig::default(), 0, tokenizer)?;
    let limits = GenerationLimits { max_tokens: sample.max_tokens, slide: 1 };
    let mut generation = Generation::new(dev, gpt, &prompt, sampler, limits)?;
    while generation.next_token()?.is_some() {}
    Ok((generation.tokens().to_vec(), prompt.len()))
}
