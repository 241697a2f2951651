//! The output of a training: lines and a progress bar, JSON lines, or the dashboard.

use std::time::{Duration, Instant};

use anyhow::Result;
use calame::run::RunListener;
use calame::run::metrics::Record;
use indicatif::ProgressBar;

use super::output::{PLAIN_PROGRESS, duration, is_closed_pipe, message, note, print};
use super::progress;
use super::tui::{Screen, Tui};
use super::verbosity;
use crate::training::interruption::Interruption;
use crate::training::signals::Signals;

/// The time between two attempts to write to a full disk.
const RETRY: Duration = Duration::from_secs(1);

/// Prints a training's records as lines with a progress bar, as JSON lines, or on the dashboard.
pub struct Display {
    pub signals: Signals,
    /// What the answer to a signal depends on.
    pub interruption: Interruption,
    pub json: bool,
    n_steps_total: u64,
    /// Steps done by earlier programs, if the run was resumed.
    n_steps_before: u64,
    bar: ProgressBar,
    started: Instant,
    last_plain: Instant,
    /// Set when standard output cannot be written any more. The training continues without it.
    is_output_closed: bool,
    dashboard: Option<Tui>,
    /// Lines to print when the dashboard is closed.
    deferred_lines: Vec<String>,
    /// What could not be written at the last attempt.
    unwritten: Option<String>,
}

impl Display {
    /// The display of a training that has made `n_steps_before` of `n_steps_total` steps. Signals are handled from now on.
    pub fn new(
        signals: Signals,
        interruption: Interruption,
        json: bool,
        (n_steps_before, n_steps_total): (u64, u64),
    ) -> Result<Display> {
        interruption.handle(&signals)?;
        let bar = progress::bar(Some(n_steps_total), "{bar:32} step {pos} of {len} · {msg} · {eta} left", json)?
            .with_position(n_steps_before);
        bar.reset_eta();
        bar.set_message("first step");
        let (started, last_plain) = (Instant::now(), Instant::now());
        Ok(Display {
            signals,
            interruption,
            json,
            n_steps_total,
            n_steps_before,
            bar,
            started,
            last_plain,
            is_output_closed: false,
            dashboard: None,
            deferred_lines: Vec::new(),
            unwritten: None,
        })
    }

    /// Takes the terminal for a dashboard.
    pub fn show_dashboard(&mut self, screen: Screen) -> Result<()> {
        self.bar.finish_and_clear();
        self.bar = ProgressBar::hidden();
        self.dashboard = Some(Tui::start(screen, self.signals.clone())?);
        verbosity::take_screen(true);
        Ok(())
    }

    /// Prints a line above the progress bar: a record for programs, or a note for people, which `-q` hides.
    ///
    /// A failure to print does not stop the training: the run's folder has everything.
    pub fn line(&mut self, text: &str) {
        if self.json || verbosity::shows_notes() {
            self.result(text);
        }
    }

    /// Prints a line that is part of the result, as [`line`](Self::line) prints others.
    pub fn result(&mut self, text: &str) {
        if let Some(dashboard) = &self.dashboard {
            dashboard.screen().log(text);
            self.deferred_lines.push(text.to_owned());
            return;
        }
        if self.is_output_closed {
            return;
        }
        if let Err(error) = self.bar.suspend(|| print(&format!("{text}\n"))) {
            self.is_output_closed = true;
            if !is_closed_pipe(&error) {
                note(&format!("warning: {}; the training continues", message(&error)));
            }
        }
    }

    /// Removes the progress bar, or closes the dashboard and prints the lines that it has deferred.
    pub fn finish(&mut self) {
        self.bar.finish_and_clear();
        if let Some(mut dashboard) = self.dashboard.take() {
            dashboard.end();
            verbosity::take_screen(false);
            for line in std::mem::take(&mut self.deferred_lines) {
                self.result(&line);
            }
        }
    }

    /// Shows a step on the progress bar or, where there is none, prints a line every [`PLAIN_PROGRESS`].
    fn progress(&mut self, step: u64, loss: f32, tokens_per_second: f64) {
        self.bar.set_position(step + 1);
        self.bar.set_message(format!("loss {loss:.3} · {tokens_per_second:.0} tokens/s"));
        if self.bar.is_hidden() && !self.json && self.last_plain.elapsed() >= PLAIN_PROGRESS {
            self.last_plain = Instant::now();
            // A training that was rolled back may be before the step at which this program started.
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

    /// Prints evaluations and samples as lines for people.
    fn print_record(&mut self, record: &Record) {
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
        self.unwritten = None;
        if let Record::Step { step, loss, tokens_per_second, .. } = *record {
            self.interruption.set_steps(step + 1);
            match &self.dashboard {
                Some(dashboard) => dashboard.screen().step_ended(),
                None => self.progress(step, loss, tokens_per_second),
            }
        }
        if let Some(dashboard) = &self.dashboard {
            dashboard.screen().add(record);
        }
        if self.json {
            self.line(&serde_json::to_string(record).expect("metrics.jsonl holds the same"));
        } else {
            self.print_record(record);
        }
    }

    /// Prints on standard error, or adds a line to the dashboard's log.
    fn warning(&mut self, text: &str) {
        let line = format!("warning: {text}");
        match &self.dashboard {
            Some(dashboard) => {
                dashboard.screen().log(&line);
                self.deferred_lines.push(line);
            }
            None => self.bar.suspend(|| note(&line)),
        }
    }

    /// Waits and tries again. Who wants to give up sends two signals, which are handled by a thread of their own.
    fn write_failed(&mut self, what: &str, error: &str) -> bool {
        if self.unwritten.as_deref() != Some(what) {
            self.unwritten = Some(what.to_owned());
            self.warning(&format!(
                "{error}; trying to save {what} again every second: free some space, or press Ctrl-C twice to give up and lose it"
            ));
        }
        std::thread::sleep(RETRY);
        true
    }

    fn rolled_back(&mut self, records: &[Record], n_steps: u64) {
        self.interruption.set_steps(n_steps);
        self.bar.set_position(n_steps);
        if let Some(dashboard) = &self.dashboard {
            dashboard.screen().roll_back(records, n_steps);
        }
    }

    fn stop_requested(&mut self) -> bool {
        self.signals.stop_requested()
    }
}
