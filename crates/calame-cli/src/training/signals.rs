//! SIGINT and SIGTERM: the first requests a stop after the current step, the second ends the program at once.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// How often a thread that waits for a signal looks for it.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The signal that was received, if any. Clones share it.
#[derive(Clone)]
pub struct Signals {
    received: Arc<AtomicUsize>,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn listen() -> anyhow::Result<Signals> {
        let received = Arc::new(AtomicUsize::new(0));
        let seen = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order the first signal sets `seen` after the conditional action has read it.
            flag::register_conditional_default(signal, Arc::clone(&seen))?;
            flag::register(signal, Arc::clone(&seen))?;
            flag::register_usize(signal, Arc::clone(&received), signal as usize)?;
        }
        Ok(Signals { received })
    }

    /// Ends the program as the signal does by default if it still runs `grace` after one. For work that can be killed at
    /// any time but takes a while to notice a request to stop.
    pub fn end_within(&self, grace: Duration) {
        let signals = self.clone();
        std::thread::spawn(move || {
            while !signals.stop_requested() {
                std::thread::sleep(POLL_INTERVAL);
            }
            std::thread::sleep(grace);
            // If this fails, the program still stops when it notices the request.
            let _ = signal_hook::low_level::emulate_default_handler(SIGINT);
        });
    }

    /// Whether a signal was received or a stop requested by [`request_stop`](Self::request_stop).
    pub fn stop_requested(&self) -> bool {
        self.received.load(Ordering::Relaxed) != 0
    }

    /// Requests a stop as SIGINT does, for a key of the dashboard.
    pub fn request_stop(&self) {
        self.received.store(SIGINT as usize, Ordering::Relaxed);
    }

    /// Ends the program at once, as a second SIGINT does.
    pub fn abort(&self) {
        // If this fails, the program still stops after the current step.
        let _ = signal_hook::low_level::emulate_default_handler(SIGINT);
    }

    /// 128 plus the signal's number, as shells report it.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(128 + self.received.load(Ordering::Relaxed) as u8)
    }
}
