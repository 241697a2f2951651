//! A training as people and programs see it: lines, a progress bar or a dashboard, the run's metrics, event files and
//! samples.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use calame::checkpoint::{CheckpointError, Progress, save_best};
use calame::infer::{Generation, GenerationLimits, Sampler, SamplerConfig};
use calame::model::Gpt;
use calame::ops::Device;
use calame::tokenizer::{Special, Tokenizer};
use calame::train::metrics::{self, MetricsWriter, Record};
use calame::train::plot::{self, PlotError};
use calame::train::tensorboard::EventWriter;
use calame::train::{EvaluationReport, Observer, RunFolder, SampleConfig, StepFault, StepReport, Trainer};
use indicatif::{ProgressBar, ProgressStyle};

use crate::output::{duration, is_closed_pipe, message, note, print};
use crate::signals::Signals;
use crate::tui::{Screen, Tui};

/// Where there is no terminal, a line about progress at most this often.
const PLAIN_PROGRESS: Duration = Duration::from_secs(15);
/// The plot is drawn again after an evaluation unless that would take more of the time than one part in so many.
const PLOT_SHARE: u32 = 50;

/// Follows one training.
pub struct Follower {
    pub folder: RunFolder,
    pub metrics: MetricsWriter,
    pub tokenizer: Arc<dyn Tokenizer>,
    pub sample: SampleConfig,
    pub signals: Signals,
    pub json: bool,
    pub n_steps_total: u64,
    /// Steps done before this program was started.
    pub n_steps_before: u64,
    bar: ProgressBar,
    started: Instant,
    last_plain: Instant,
    /// Standard output takes no more; the training goes on.
    unread: bool,
    /// Training's and validation's, of the last evaluation.
    pub last_losses: Option<(f32, f32)>,
    events: Option<EventWriter>,
    dashboard: Option<Tui>,
    /// Printed when the dashboard is gone.
    later: Vec<String>,
    /// When the plot was last drawn, and how long that took.
    last_plot: (Instant, Duration),
    /// The last sample as tokens, and how many of them are the prompt's.
    last_sample: Option<(Vec<u32>, usize)>,
}

impl Follower {
    pub fn new(
        folder: RunFolder,
        metrics: MetricsWriter,
        tokenizer: Arc<dyn Tokenizer>,
        sample: SampleConfig,
        signals: Signals,
        json: bool,
        (n_steps_before, n_steps_total): (u64, u64),
    ) -> Result<Follower> {
        let bar = if io::stderr().is_terminal() && !json {
            ProgressBar::new(n_steps_total).with_position(n_steps_before)
        } else {
            ProgressBar::hidden()
        };
        bar.reset_eta();
        bar.set_style(ProgressStyle::with_template("{bar:32} step {pos} of {len} · {msg} · {eta} left")?);
        bar.set_message("first step");
        let (started, last_plain) = (Instant::now(), Instant::now());
        Ok(Follower {
            folder,
            metrics,
            tokenizer,
            sample,
            signals,
            json,
            n_steps_total,
            n_steps_before,
            bar,
            started,
            last_plain,
            unread: false,
            last_losses: None,
            events: None,
            dashboard: None,
            later: Vec::new(),
            last_plot: (started, Duration::ZERO),
            last_sample: None,
        })
    }

    /// Writes event files for TensorBoard too. That they cannot be written is told, and ends nothing.
    pub fn write_events(&mut self) {
        self.write_events_after(self.n_steps_before);
    }

    /// A new file; what older ones tell of later steps is void.
    fn write_events_after(&mut self, n_steps: u64) {
        let folder = self.folder.tensorboard();
        match EventWriter::create(&folder, wall_time(), &host_name(), n_steps) {
            Ok(events) => self.events = Some(events),
            Err(error) => self.warn(&format!("{error}; the training goes on")),
        }
    }

    /// Takes the terminal for a dashboard, which begins with what the run has measured before.
    pub fn show_dashboard(&mut self, mut screen: Screen) -> Result<()> {
        metrics::read(&self.folder.metrics())?.iter().for_each(|record| screen.take(record));
        self.bar.finish_and_clear();
        self.bar = ProgressBar::hidden();
        self.dashboard = Some(Tui::start(screen, self.signals.clone())?);
        Ok(())
    }

    /// A warning: on standard error, or among the dashboard's lines.
    pub fn warn(&mut self, text: &str) {
        let line = format!("warning: {text}");
        match &self.dashboard {
            Some(dashboard) => {
                dashboard.screen().log(&line);
                self.later.push(line);
            }
            None => self.bar.suspend(|| note(&line)),
        }
    }

    /// Seconds since the training began.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
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

    /// Writes a record into the run's metrics; with `--json` it is printed too.
    pub fn record(&mut self, record: &Record) -> Result<()> {
        self.metrics.write(record)?;
        if let Some(events) = &mut self.events
            && let Err(error) = events.write(record, wall_time())
        {
            self.events = None;
            self.warn(&format!("{error}; no more events are written, the training goes on"));
        }
        if let Some(dashboard) = &self.dashboard {
            dashboard.screen().take(record);
        }
        if self.json {
            self.line(&serde_json::to_string(record)?);
        }
        Ok(())
    }

    /// A step that went bad: told at once, and written into the metrics.
    fn record_fault(&mut self, report: &StepReport, remedy: &str) -> Result<()> {
        let StepReport { step, epoch, fault, .. } = *report;
        let what = fault.map(|fault| fault.to_string()).unwrap_or_default();
        self.warn(&format!("step {step}: {what}; {remedy}"));
        self.record(&Record::Trouble { step, epoch, what, remedy: remedy.to_owned() })
    }

    /// The step that ended the training, in the metrics.
    pub fn ended_by(&mut self, trainer: &Trainer<'_>, step: u64, fault: StepFault) -> Result<()> {
        let epoch = trainer.progress().epoch + 1;
        self.record(&Record::Trouble {
            step,
            epoch,
            what: fault.to_string(),
            remedy: "the training ended".to_owned(),
        })?;
        Ok(self.metrics.sync()?)
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

    /// The tokens of the last sample and how many are its prompt's, if this program has written one.
    pub fn last_sample(&self) -> Option<&(Vec<u32>, usize)> {
        self.last_sample.as_ref()
    }

    /// Draws the loss plot from what has been measured so far.
    pub fn draw(&self) -> Result<()> {
        let records = metrics::read(&self.folder.metrics())?;
        plot::draw(&records, None, self.folder.path())?;
        Ok(())
    }

    /// Draws the plot again, unless that has just been done. A plot that cannot be drawn ends no training.
    fn refresh_plot(&mut self) {
        let (last, took) = self.last_plot;
        if last.elapsed() < took * PLOT_SHARE {
            return;
        }
        let start = Instant::now();
        let drawn = self.draw();
        self.last_plot = (Instant::now(), start.elapsed());
        match drawn {
            // Nothing to draw yet.
            Err(error) if error.is::<PlotError>() && !is_io(&error) => {}
            Err(error) => self.warn(&format!("{}; the training goes on", message(&error))),
            Ok(()) => {}
        }
    }

    fn progress(&mut self, report: &StepReport) {
        if let Some(dashboard) = &self.dashboard {
            return dashboard.screen().step_ended();
        }
        let tokens_per_second = report.n_tokens as f64 / report.step_seconds;
        self.bar.set_position(report.step + 1);
        self.bar.set_message(format!("loss {:.3} · {tokens_per_second:.0} tokens/s", report.loss));
        if self.bar.is_hidden() && !self.json && self.last_plain.elapsed() >= PLAIN_PROGRESS {
            self.last_plain = Instant::now();
            // A training that went back may be before the step that this program began with.
            let done = (report.step + 1).saturating_sub(self.n_steps_before).max(1) as f64;
            let left = self.seconds() / done * (self.n_steps_total - report.step - 1) as f64;
            note(&format!(
                "step {} of {}, loss {:.3}, {tokens_per_second:.0} tokens/s, about {} left",
                report.step + 1,
                self.n_steps_total,
                report.loss,
                duration(left)
            ));
        }
    }
}

impl Observer for Follower {
    type Error = anyhow::Error;

    fn now(&mut self) -> Duration {
        self.started.elapsed()
    }

    fn stop_requested(&mut self) -> bool {
        self.signals.stop_requested()
    }

    fn step(&mut self, report: &StepReport) -> Result<()> {
        self.progress(report);
        let StepReport { step, epoch, loss, lr, grad_norm, n_tokens, n_tokens_seen, step_seconds, .. } = *report;
        let tokens_per_second = n_tokens as f64 / step_seconds;
        self.record(&Record::Step { step, epoch, loss, lr, grad_norm, n_tokens_seen, step_seconds, tokens_per_second })
    }

    fn evaluation(&mut self, report: &EvaluationReport) -> Result<()> {
        let EvaluationReport { step, epoch, train_loss, val_loss, n_tokens_seen, seconds } = *report;
        self.last_losses = Some((train_loss, val_loss));
        self.record(&Record::Evaluation { step, epoch, train_loss, val_loss, n_tokens_seen, seconds })?;
        if !self.json {
            self.line(&format!("Ep {epoch} (Step {step:06}): Train loss {train_loss:.3}, Val loss {val_loss:.3}"));
        }
        self.refresh_plot();
        Ok(())
    }

    fn epoch_end(&mut self, dev: &Device, gpt: &Gpt, epoch: u64, step: u64) -> Result<()> {
        if self.sample.max_tokens == 0 {
            return Ok(());
        }
        let (tokens, n_prompt) = sample_tokens(dev, gpt, self.tokenizer.as_ref(), &self.sample)?;
        let text = self.tokenizer.decode(&tokens)?;
        self.last_sample = Some((tokens, n_prompt));
        self.folder.add_sample(epoch, &text)?;
        if !self.json {
            self.line(&text.replace('\n', " "));
        }
        self.record(&Record::Sample { step, epoch, prompt: self.sample.prompt.clone(), text })
    }

    fn skipped(&mut self, report: &StepReport) -> Result<()> {
        self.record_fault(report, "its batch is passed over")
    }

    fn went_back(&mut self, report: &StepReport, folder: &Path, progress: &Progress) -> Result<()> {
        // What was measured after the checkpoint is measured again.
        self.metrics = MetricsWriter::open_at_step(&self.folder.metrics(), progress)?;
        let records = metrics::read(&self.folder.metrics())?;
        self.folder.rewrite_samples(&records)?;
        self.bar.set_position(progress.n_steps);
        if let Some(dashboard) = &self.dashboard {
            dashboard.screen().go_back(&records, progress.n_steps);
        }
        if self.events.is_some() {
            self.write_events_after(progress.n_steps);
        }
        self.record_fault(report, &format!("going on from {} with a smaller learning rate", folder.display()))
    }

    fn improved(&mut self, gpt: &Gpt, report: &EvaluationReport) -> Result<bool> {
        let saved = save_best(&self.folder.checkpoints(), gpt, self.tokenizer.as_ref(), report.step);
        if let Err(error) = &saved {
            self.warn(&format!("{error}; this best model is not kept, the one before it stands, the training goes on"));
        }
        Ok(saved.is_ok())
    }

    fn checkpoint_failed(&mut self, error: &CheckpointError) {
        self.warn(&format!("{error}; no checkpoint was written, those before it stand, the training goes on"));
    }
}

/// Whether the system refused to write.
fn is_io(error: &anyhow::Error) -> bool {
    error.chain().any(<dyn std::error::Error>::is::<io::Error>)
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
    let sampler = Sampler::new(&SamplerConfig::default(), 0)?.among(tokenizer.n_vocab());
    let limits = GenerationLimits { max_tokens: sample.max_tokens, slide: 1 };
    let mut generation = Generation::new(dev, gpt, &prompt, sampler, limits)?;
    while generation.next_token()?.is_some() {}
    Ok((generation.tokens().to_vec(), prompt.len()))
}
