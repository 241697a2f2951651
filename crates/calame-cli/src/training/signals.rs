//! SIGINT and SIGTERM: the first asks for an end after the step under way, a second one ends the program at once.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Which signal has come.
#[derive(Clone)]
pub struct Signals {
    received: Arc<AtomicUsize>,
}

impl Signals {
    /// Listens from now on.
    pub fn listen() -> anyhow::Result<Signals> {
        let received = Arc::new(AtomicUsize::new(0));
        let seen = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order the first signal sets `seen` after the conditional action has looked at it.
            flag::register_conditional_default(signal, Arc::clone(&seen))?;
            flag::register(signal, Arc::clone(&seen))?;
            flag::register_usize(signal, Arc::clone(&received), signal as usize)?;
        }
        Ok(Signals { received })
    }

    /// Whether one has come.
    pub fn stop_requested(&self) -> bool {
        self.received.load(Ordering::Relaxed) != 0
    }

    /// What SIGINT asks for, by a key.
    pub fn request_stop(&self) {
        self.received.store(SIGINT as usize, Ordering::Relaxed);
    }

    /// What a second SIGINT does: the program ends at once.
    pub fn abandon(&self) {
        // It ends the program; if it cannot, the first request still stands.
        let _ = signal_hook::low_level::emulate_default_handler(SIGINT);
    }

    /// 128 and the signal's number, as shells have it.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(128 + self.received.load(Ordering::Relaxed) as u8)
    }
}
