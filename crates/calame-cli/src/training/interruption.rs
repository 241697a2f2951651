//! What a training says and does when it is interrupted: the first signal stops it and saves its state, the second
//! quits without saving.
//!
//! Both are handled by a thread of their own, so that the answer is immediate, whether the training computes a long
//! step, writes gigabytes, waits for a full disk or is blocked by the reader of its output. It takes no lock that the
//! training could hold.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use calame::train::latest_checkpoint;

use super::signals::{Press, Signals};
use crate::ui::output::{grouped, note, print_error_event, size};
use crate::ui::tui;

/// The exit code of a program that quits without saving; 130 and 143 are those of a saved stop.
const QUIT: i32 = 1;
/// The longest time that the program waits for its last event to be printed.
const EVENT_TIME: Duration = Duration::from_millis(200);

/// What the training is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Steps, evaluations and samples.
    Training = 0,
    /// Saving the result: all steps have been made.
    Finishing = 1,
    /// The result is saved.
    Done = 2,
}

/// How far a training is, as the thread that handles signals sees it. Clones share it.
#[derive(Clone, Debug)]
pub struct Interruption {
    n_steps: Arc<AtomicU64>,
    activity: Arc<AtomicU8>,
    /// Folder of the checkpoints.
    checkpoints: PathBuf,
    /// Size of a checkpoint.
    state_bytes: u64,
    /// Whether the loss is also reported as an event.
    json: bool,
}

impl Interruption {
    /// A training of which `n_steps` steps are done; with `json` it is followed by a program.
    pub fn new(checkpoints: PathBuf, state_bytes: u64, n_steps: u64, json: bool) -> Interruption {
        Interruption {
            n_steps: Arc::new(AtomicU64::new(n_steps)),
            activity: Arc::new(AtomicU8::new(Activity::Training as u8)),
            checkpoints,
            state_bytes,
            json,
        }
    }

    /// Starts to handle signals.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn handle(&self, signals: &Signals) -> Result<()> {
        let this = self.clone();
        signals.watch(move |press| match press {
            Press::First => announce(&this.stopping()),
            Press::Again => {
                // The training's last words are lost with it, so the terminal is restored first.
                tui::restore_terminal();
                let lost = this.lost();
                announce(&format!("error: {lost}"));
                if this.json {
                    // Another thread may be blocked in standard output and hold its lock.
                    std::thread::spawn(move || print_error_event(&lost, None, QUIT as u8));
                    std::thread::sleep(EVENT_TIME);
                }
                std::process::exit(QUIT);
            }
        })
    }

    /// Notes the number of completed steps.
    pub fn set_steps(&self, n_steps: u64) {
        self.n_steps.store(n_steps, Ordering::SeqCst);
    }

    /// Notes what the training is doing.
    pub fn set_activity(&self, activity: Activity) {
        self.activity.store(activity as u8, Ordering::SeqCst);
    }

    fn is(&self, activity: Activity) -> bool {
        self.activity.load(Ordering::SeqCst) == activity as u8
    }

    /// The answer to the first signal.
    fn stopping(&self) -> String {
        if self.is(Activity::Done) {
            return "the result is saved; press again to quit at once".to_owned();
        }
        if self.is(Activity::Finishing) {
            return "the training has ended and its result is being saved; press again to quit without saving it"
                .to_owned();
        }
        format!("stopping after this step, then saving {}; press again to quit without saving", size(self.state_bytes))
    }

    /// What is lost if the program quits now.
    fn lost(&self) -> String {
        let n_steps = self.n_steps.load(Ordering::SeqCst);
        let saved = latest_checkpoint(&self.checkpoints).ok().flatten();
        let saved = saved.and_then(|path| path.file_name()?.to_str()?.strip_prefix("step-")?.parse::<u64>().ok());
        let what = if self.is(Activity::Finishing) { "the result and " } else { "" };
        match saved {
            _ if self.is(Activity::Done) => "quit; the result is saved".to_owned(),
            Some(saved) if saved >= n_steps && what.is_empty() => {
                format!("quit; nothing is lost: the state after step {} is saved", grouped(saved))
            }
            Some(saved) => format!(
                "quit without saving: {what}the {} steps since the checkpoint of step {} are lost",
                grouped(n_steps.saturating_sub(saved)),
                grouped(saved)
            ),
            None => {
                format!("quit without saving: {what}all {} steps are lost: there is no checkpoint", grouped(n_steps))
            }
        }
    }
}

/// Prints a line on standard error, over a progress bar if there is one. The bar is drawn again below it.
fn announce(line: &str) {
    if tui::is_shown() {
        // The dashboard's footer says the same.
        return;
    }
    let clear = if io::stderr().is_terminal() { "\r\x1b[2K" } else { "" };
    note(&format!("{clear}{line}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_name_sizes_and_losses() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = folder.path().join("checkpoints");
        let training = Interruption::new(checkpoints.clone(), 1_956_114_432, 0, false);
        assert_eq!(
            training.stopping(),
            "stopping after this step, then saving 1.96 GB; press again to quit without saving"
        );
        training.set_steps(1234);
        assert_eq!(training.lost(), "quit without saving: all 1,234 steps are lost: there is no checkpoint");
        std::fs::create_dir_all(checkpoints.join("step-001200")).unwrap();
        assert_eq!(training.lost(), "quit without saving: the 34 steps since the checkpoint of step 1,200 are lost");
        // One that is being written does not count.
        std::fs::create_dir_all(checkpoints.join(".step-001234.partial")).unwrap();
        assert!(training.lost().contains("the 34 steps"));
        training.set_activity(Activity::Finishing);
        assert!(training.stopping().contains("its result is being saved"));
        assert!(training.lost().contains("the result and the 34 steps"), "{}", training.lost());
        training.set_activity(Activity::Training);
        std::fs::create_dir_all(checkpoints.join("step-001234")).unwrap();
        assert_eq!(training.lost(), "quit; nothing is lost: the state after step 1,234 is saved");
        training.set_activity(Activity::Done);
        assert_eq!(training.lost(), "quit; the result is saved");
    }
}
