//! The dashboard of `calame train --tui`: a terminal of its own, keys, and what stands there before and after.
//!
//! The training only changes a [`Screen`] under a lock, which costs it nothing to speak of; a thread draws that twice a
//! second and listens to the keys. Whatever ends the training, an error or a panic too, the terminal is given back as it was.

mod charts;
mod draw;
mod screen;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal, Stdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};

pub use self::screen::{About, Screen};
use crate::training::signals::Signals;
use crate::ui::output::WithHint;

/// From one drawing to the next; keys are answered at once.
const REFRESH: Duration = Duration::from_millis(500);

/// Whether the terminal is ours.
static IS_OURS: AtomicBool = AtomicBool::new(false);
static PANICS_ARE_SHOWN: Once = Once::new();

/// The dashboard while it is shown.
pub struct Tui {
    screen: Arc<Mutex<Screen>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// An error where there is no terminal to show it on.
pub fn check_terminal() -> Result<()> {
    for (is_terminal, name) in
        [(io::stdin().is_terminal(), "standard input"), (io::stdout().is_terminal(), "standard output")]
    {
        if !is_terminal {
            let hint = "leave --tui out: the training's lines and TensorBoard's files tell the same";
            bail!(WithHint::usage(format!("--tui needs a terminal: {name} is none"), hint));
        }
    }
    Ok(())
}

/// Gives the terminal back, if it is ours.
fn give_back() {
    if IS_OURS.swap(false, Ordering::SeqCst) {
        // Should one of them fail there is nobody left to tell.
        let _ = disable_raw_mode();
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    }
}

fn take() -> Result<Terminal<CrosstermBackend<Stdout>>> {
    PANICS_ARE_SHOWN.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            before(panic);
        }));
    });
    enable_raw_mode().context("--tui: the terminal cannot be taken")?;
    IS_OURS.store(true, Ordering::SeqCst);
    let terminal =
        execute!(io::stdout(), EnterAlternateScreen).and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
    terminal.context("--tui: the terminal cannot be drawn on").inspect_err(|_| give_back())
}

impl Tui {
    /// Takes the terminal and shows `screen` on it from now on.
    pub fn start(screen: Screen, signals: Signals) -> Result<Tui> {
        let terminal = take()?;
        let (screen, end) = (Arc::new(Mutex::new(screen)), Arc::new(AtomicBool::new(false)));
        let shown = Shown { screen: Arc::clone(&screen), end: Arc::clone(&end), signals };
        let thread = std::thread::Builder::new().name("dashboard".to_owned()).spawn(move || shown.run(terminal));
        let thread = Some(thread.context("--tui: no thread to draw with").inspect_err(|_| give_back())?);
        Ok(Tui { screen, end, thread })
    }

    /// What is shown, to change.
    pub fn screen(&self) -> MutexGuard<'_, Screen> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the terminal back.
    pub fn end(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // It ends within a refresh; should it have panicked, that has been told.
            let _ = thread.join();
        }
        give_back();
    }
}

impl Drop for Tui {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the drawing thread has.
struct Shown {
    screen: Arc<Mutex<Screen>>,
    end: Arc<AtomicBool>,
    signals: Signals,
}

/// What a key asks for.
#[derive(Debug, PartialEq)]
enum Asked {
    Nothing,
    /// An end after the step under way.
    Stop,
    /// An end at once: it was asked for once more.
    Abandon,
}

impl Shown {
    fn run(self, mut terminal: Terminal<CrosstermBackend<Stdout>>) {
        while !self.end.load(Ordering::SeqCst) {
            // A copy, so that a terminal that does not take what is written holds up no step.
            let screen = {
                let mut screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
                screen.look_around();
                screen.is_stopping |= self.signals.stop_requested();
                screen.clone()
            };
            if terminal.draw(|frame| draw::draw(frame, &screen)).is_err() {
                // The terminal is gone; the training goes on, and a signal still ends it.
                return give_back();
            }
            match event::poll(REFRESH) {
                Ok(true) => self.answer(),
                Ok(false) => {}
                Err(_) => return give_back(),
            }
        }
    }

    fn answer(&self) {
        let Ok(Event::Key(key)) = event::read() else { return };
        let asked = answer_key(&mut self.screen.lock().unwrap_or_else(PoisonError::into_inner), key);
        match asked {
            Asked::Nothing => {}
            Asked::Stop => self.signals.request_stop(),
            Asked::Abandon => {
                give_back();
                self.signals.abandon();
            }
        }
    }
}

/// What a key does to the screen, and what it asks of the training.
fn answer_key(screen: &mut Screen, key: KeyEvent) -> Asked {
    if key.kind == KeyEventKind::Release {
        return Asked::Nothing;
    }
    let is_interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        _ if is_interrupt && screen.is_stopping => return Asked::Abandon,
        _ if is_interrupt => {}
        KeyCode::Char('y' | 'Y') | KeyCode::Enter if screen.is_asking => {}
        KeyCode::Char('q' | 'Q') if !screen.is_stopping && !screen.is_asking => {
            screen.is_asking = true;
            return Asked::Nothing;
        }
        _ => {
            screen.is_asking = false;
            return Asked::Nothing;
        }
    }
    (screen.is_asking, screen.is_stopping) = (false, true);
    Asked::Stop
}
