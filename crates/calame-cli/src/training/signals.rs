//! SIGINT and SIGTERM: the first requests a stop, the second ends the program.
//!
//! The handlers only set flags. Where a training must respond while it computes or waits for a disk, a thread reads
//! the flags: see [`Signals::watch`].

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// The time between two looks at the flags.
const POLL: Duration = Duration::from_millis(50);

/// Which signal was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Press {
    /// The first, which requests a stop.
    First,
    /// Another one, while the program is stopping.
    Again,
}

/// The signals that were received, if any. Clones share them.
#[derive(Clone)]
pub struct Signals {
    /// The number of the last signal that no thread has seen, or 0.
    pending: Arc<AtomicUsize>,
    /// The number of the signal that requested the stop, or 0.
    stopping: Arc<AtomicUsize>,
    /// Whether the next signal ends the program at once.
    at_once: Arc<AtomicBool>,
}

impl Signals {
    /// Installs handlers: the first signal requests a stop, the second ends the program at once.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn listen() -> anyhow::Result<Signals> {
        let signals = Signals::install(false, true)?;
        Ok(Signals { stopping: Arc::clone(&signals.pending), ..signals })
    }

    /// Installs handlers for a program that has nothing to save yet: a signal ends it at once, until
    /// [`watch`](Self::watch) is called.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn listen_later() -> anyhow::Result<Signals> {
        Signals::install(true, false)
    }

    fn install(at_once: bool, first_arms: bool) -> anyhow::Result<Signals> {
        let (pending, at_once) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(at_once)));
        for signal in [SIGINT, SIGTERM] {
            // In this order the first signal sets `at_once` after the conditional action has read it.
            flag::register_conditional_default(signal, Arc::clone(&at_once))?;
            if first_arms {
                flag::register(signal, Arc::clone(&at_once))?;
            }
            flag::register_usize(signal, Arc::clone(&pending), signal as usize)?;
        }
        Ok(Signals { pending, stopping: Arc::default(), at_once })
    }

    /// Starts a thread that calls `press` within 50 ms of a signal, whatever the program does in the meantime. When it
    /// has been called for the second signal, a third one ends the program at once, even if `press` blocks.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn watch(&self, mut press: impl FnMut(Press) + Send + 'static) -> anyhow::Result<()> {
        let signals = self.clone();
        let watch = move || {
            loop {
                std::thread::sleep(POLL);
                let signal = signals.pending.swap(0, Ordering::SeqCst);
                if signal == 0 {
                    continue;
                }
                if signals.stopping.swap(signal, Ordering::SeqCst) == 0 {
                    press(Press::First);
                } else {
                    signals.at_once.store(true, Ordering::SeqCst);
                    press(Press::Again);
                }
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(watch).context("cannot start a thread")?;
        self.at_once.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Ends the program as the signal does by default if it still runs `grace` after one. For work that can be killed at
    /// any time but takes a while to notice a request to stop.
    pub fn end_within(&self, grace: Duration) {
        let signals = self.clone();
        std::thread::spawn(move || {
            while !signals.stop_requested() {
                std::thread::sleep(POLL);
            }
            std::thread::sleep(grace);
            // If this fails, the program still stops when it notices the request.
            let _ = signal_hook::low_level::emulate_default_handler(SIGINT);
        });
    }

    /// Whether a signal was received or a stop requested by [`request_stop`](Self::request_stop).
    pub fn stop_requested(&self) -> bool {
        self.stopping.load(Ordering::SeqCst) != 0 || self.pending.load(Ordering::SeqCst) != 0
    }

    /// Acts as if SIGINT was received, for a key of the dashboard.
    pub fn request_stop(&self) {
        self.pending.store(SIGINT as usize, Ordering::SeqCst);
    }

    /// 128 plus the signal's number, as shells report it.
    pub fn exit_code(&self) -> ExitCode {
        let signal = self.stopping.load(Ordering::SeqCst).max(self.pending.load(Ordering::SeqCst));
        ExitCode::from(128 + signal as u8)
    }
}
