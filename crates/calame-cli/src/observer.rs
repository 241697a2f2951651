//! A training as people and programs see it: lines, a progress bar or a dashboard. The run's folder is the recorder's.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use calame::checkpoint::{CheckpointError, Progress};
use calame::infer::{Generation, GenerationLimits, Sampler, SamplerConfig};
use calame::model::Gpt;
use calame::ops::Device;
use calame::tokenizer::{Special, Tokenizer};
use calame::train::metrics::{self, Record};
use calame::train::{EvaluationReport, Observer, Recorder, RecorderError, RunListener, SampleConfig, StepReport};
use indicatif::{ProgressBar, ProgressStyle};

use crate::output::{duration, is_closed_pipe, message, note, print};
use crate::signals::Signals;
use crate::tui::{Screen, Tui};

/// Where there is no terminal, a line about progress at most this often.
const PLAIN_PROGRESS: Duration = Duration::from_secs(15);

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

/// What a training prints: lines and a progress bar, JSON lines, or a dashboard.
pub struct Display {
    pub signals: Signals,
    pub json: bool,
    n_steps_total: u64,
    /// Steps done before this program was started.
    n_steps_before: u64,
    bar: ProgressBar,
    started: Instant,
    last_plain: Instant,
    /// Standard output takes no more; the training goes on.
    unread: bool,
    dashboard: Option<Tui>,
    /// Printed when the dashboard is gone.
    later: Vec<String>,
}

impl Display {
    pub fn new(signals: Signals, json: bool, (n_steps_before, n_steps_total): (u64, u64)) -> Result<Display> {
        let bar = if io::stderr().is_terminal() && !json {
            ProgressBar::new(n_steps_total).with_position(n_steps_before)
        } else {
            ProgressBar::hidden()
        };
        bar.reset_eta();
        bar.set_style(ProgressStyle::with_template("{bar:32} step {pos} of {len} · {msg} · {eta} left")?);
        bar.set_message("first step");
        let (started, last_plain) = (Instant::now(), Instant::now());
        Ok(Display {
            signals,
            json,
            n_steps_total,
            n_steps_before,
            bar,
            started,
            last_plain,
            unread: false,
            dashboard: None,
            later: Vec::new(),
        })
    }

    fn show_dashboard(&mut self, screen: Screen) -> Result<()> {
        self.bar.finish_and_clear();
        self.bar = ProgressBar::hidden();
        self.dashboard = Some(Tui::start(screen, self.signals.clone())?);
        Ok(())
    }

    /// Prints a line above the progress bar.
    ///
    /// What cannot be printed does not end a training of hours: the run's folder has it all.
    pub fn line(&mut self, text: &str) {
        if let Some(dashboard) = &self.dashboard {
            dashboard.screen().log(text);
            self.later.push(text.to_owned());
            return;
        }
        if self.unread {
            return;
        }
        if let Err(error) = self.bar.suspend(|| print(&format!("{text}\n"))) {
            self.unread = true;
            if !is_closed_pipe(&error) {
                note(&format!("warning: {}; the training goes on", message(&error)));
            }
        }
    }

    /// Takes the progress bar or the dashboard away; what the latter has kept is printed.
    pub fn finish(&mut self) {
        self.bar.finish_and_clear();
        if let Some(mut dashboard) = self.dashboard.take() {
            dashboard.end();
            for line in std::mem::take(&mut self.later) {
                self.line(&line);
            }
        }
    }

    /// A step's progress: on the bar, or where there is none as a line every quarter of a minute.
    fn progress(&mut self, step: u64, loss: f32, tokens_per_second: f64) {
        self.bar.set_position(step + 1);
        self.bar.set_message(format!("loss {loss:.3} · {tokens_per_second:.0} tokens/s"));
        if self.bar.is_hidden() && !self.json && self.last_plain.elapsed() >= PLAIN_PROGRESS {
            self.last_plain = Instant::now();
            // A training that went back may be before the step that this program began with.
            let done = (step + 1).saturating_sub(self.n_steps_before).max(1) as f64;
            let left = self.started.elapsed().as_secs_f64() / done * (self.n_steps_total - step - 1) as f64;
            note(&format!(
                "step {} of {}, loss {loss:.3}, {tokens_per_second:.0} tokens/s, about {} left",
                step + 1,
                self.n_steps_total,
                duration(left)
            ));
        }
    }

    /// The line of a record, for people.
    fn tell(&mut self, record: &Record) {
        match record {
            Record::Evaluation { step, epoch, train_loss, val_loss, .. } => {
                self.line(&format!("Ep {epoch} (Step {step:06}): Train loss {train_loss:.3}, Val loss {val_loss:.3}"));
            }
            Record::Sample { text, .. } => self.line(&text.replace('\n', " ")),
            _ => {}
        }
    }
}

impl RunListener for Display {
    fn record(&mut self, record: &Record) {
        if let Record::Step { step, loss, tokens_per_second, .. } = *record {
            match &self.dashboard {
                Some(dashboard) => dashboard.screen().step_ended(),
                None => self.progress(step, loss, tokens_per_second),
            }
        }
        if let Some(dashboard) = &self.dashboard {
            dashboard.screen().take(record);
        }
        if self.json {
            self.line(&serde_json::to_string(record).expect("metrics.jsonl holds the same"));
        } else {
            self.tell(record);
        }
    }

    /// On standard error, or among the dashboard's lines.
    fn warning(&mut self, text: &str) {
        let line = format!("warning: {text}");
        match &self.dashboard {
            Some(dashboard) => {
                dashboard.screen().log(&line);
                self.later.push(line);
            }
            None => self.bar.suspend(|| note(&line)),
        }
    }

    fn rolled_back(&mut self, records: &[Record], n_steps: u64) {
        self.bar.set_position(n_steps);
        if let Some(dashboard) = &self.dashboard {
            dashboard.screen().go_back(records, n_steps);
        }
    }

    fn stop_requested(&mut self) -> bool {
        self.signals.stop_requested()
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
