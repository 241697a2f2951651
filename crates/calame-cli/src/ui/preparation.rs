//! The progress of `calame data prepare`.

use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::Result;
use calame::data::DocumentSource;
use calame::data::prepare::{PrepareObserver, PrepareProgress, PrepareStart};
use indicatif::ProgressBar;

use super::output::{PLAIN_PROGRESS, duration, grouped, note};
use super::progress;
use crate::training::signals::Signals;

/// Shows the progress of a preparation and passes on requests to stop.
pub struct Follower {
    bar: ProgressBar,
    pub signals: Signals,
    json: bool,
    n_file_bytes: u64,
    started: Instant,
    last_plain: Instant,
    /// Bytes of text that an earlier program has prepared; not part of this program's speed.
    n_bytes_before: u64,
    is_resumed: bool,
    last: PrepareProgress,
}

impl Follower {
    pub fn new(sources: &[DocumentSource], signals: Signals, json: bool) -> Result<Follower> {
        let n_file_bytes = sources.iter().map(|source| source.file_bytes).sum();
        let template = "{bar:32} {bytes} of {total_bytes} · {msg} · {eta} left";
        let bar = progress::bar(Some(n_file_bytes), template, json)?;
        let (started, last_plain) = (Instant::now(), Instant::now());
        Ok(Follower {
            bar,
            signals,
            json,
            n_file_bytes,
            started,
            last_plain,
            n_bytes_before: 0,
            is_resumed: false,
            last: PrepareProgress::default(),
        })
    }

    /// Removes the progress bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Megabytes of text per second, since this program started.
    pub fn megabytes_per_second(&self) -> f64 {
        self.last.n_text_bytes.saturating_sub(self.n_bytes_before) as f64 / 1e6 / self.seconds().max(1e-9)
    }
}

impl PrepareObserver for Follower {
    fn started(&mut self, start: PrepareStart) {
        match start {
            PrepareStart::Fresh => {}
            PrepareStart::Resumed => {
                self.is_resumed = true;
                note("resuming the preparation in this folder");
            }
            PrepareStart::Restarted => {
                note(
                    "starting over: the files, options or tokenizer have changed since the preparation in this folder was started",
                );
            }
        }
    }

    fn progress(&mut self, progress: &PrepareProgress) -> ControlFlow<()> {
        if std::mem::take(&mut self.is_resumed) {
            self.n_bytes_before = progress.n_text_bytes;
        }
        self.last = *progress;
        let message = if progress.counting {
            "counting characters".to_owned()
        } else {
            format!("{} tokens", grouped(progress.n_tokens))
        };
        self.bar.set_position(progress.n_file_bytes.min(self.n_file_bytes));
        self.bar.set_message(message.clone());
        if self.bar.is_hidden() && !self.json && self.last_plain.elapsed() >= PLAIN_PROGRESS {
            self.last_plain = Instant::now();
            let done = progress.n_file_bytes.min(self.n_file_bytes) as f64 / self.n_file_bytes.max(1) as f64;
            let left = self.seconds() * (1.0 - done) / done.max(1e-9);
            note(&format!("{:.0} % read, {message}, about {} left", 100.0 * done, duration(left)));
        }
        if self.signals.stop_requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
