//! A training as people and programs see it: lines, a progress bar or a dashboard. The run's folder is the recorder's.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use calame::checkpoint::{CheckpointError, Progress};
use calame::infer::{Generation, GenerationLimits, Sampler, SamplerConfig};
use calame::model::Gpt;
use calame::ops::Device;
use calame::tokenizer::{Special, Tokenizer};
use calame::train::metrics;
use calame::train::{EvaluationReport, Observer, Recorder, RecorderError, SampleConfig, StepReport};

use crate::ui::display::Display;
use crate::ui::tui::Screen;

/// Follows one training.
pub struct Follower {
    pub recorder: Recorder<Display>,
    pub sample: SampleConfig,
    /// Training's and validation's, of the last evaluation.
    pub last_losses: Option<(f32, f32)>,
    /// The last sample as tokens, and how many of them are the prompt's.
    last_sample: Option<(Vec<u32>, usize)>,
}

impl Follower {
    pub fn new(recorder: Recorder, sample: SampleConfig, display: Display) -> Follower {
        Follower { recorder: recorder.with_listener(display), sample, last_losses: None, last_sample: None }
    }

    pub fn display(&mut self) -> &mut Display {
        self.recorder.listener_mut()
    }

    /// Prints a line above the progress bar.
    pub fn line(&mut self, text: &str) {
        self.display().line(text);
    }

    /// Writes event files for TensorBoard too.
    pub fn write_events(&mut self) {
        self.recorder.write_events(Box::new(wall_time), &host_name());
    }

    /// Takes the terminal for a dashboard, which begins with what the run has measured before.
    pub fn show_dashboard(&mut self, mut screen: Screen) -> Result<()> {
        metrics::read(&self.recorder.folder().metrics())?.iter().for_each(|record| screen.take(record));
        self.display().show_dashboard(screen)
    }

    /// The tokens of the last sample and how many are its prompt's, if this program has written one.
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
        self.last_losses = Some((report.train_loss, report.val_loss));
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

    fn went_back(&mut self, report: &StepReport, folder: &Path, progress: &Progress) -> Result<()> {
        self.recorder.went_back(report, folder, progress).map_err(unwrapped)
    }

    fn improved(&mut self, gpt: &Gpt, report: &EvaluationReport) -> Result<bool> {
        self.recorder.improved(gpt, report).map_err(unwrapped)
    }

    fn checkpoint_failed(&mut self, error: &CheckpointError) {
        self.recorder.checkpoint_failed(error);
    }
}

/// The recorder's error without the recorder: hints and exit codes depend on what failed.
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

/// Time since 1970.
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

/// The text that a training writes after an epoch: the prompt, continued greedily.
pub fn sample_text(dev: &Device, gpt: &Gpt, tokenizer: &dyn Tokenizer, sample: &SampleConfig) -> Result<String> {
    Ok(tokenizer.decode(&sample_tokens(dev, gpt, tokenizer, sample)?.0)?)
}

/// The same as tokens, and how many of them are the prompt's.
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
