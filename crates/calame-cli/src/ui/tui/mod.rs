//! The dashboard of `calame train --tui`: the alternate screen of the terminal, and its keys.
//!
//! The training only updates a [`Screen`] under a lock, which takes it almost no time. A thread of its own draws the
//! screen twice a second and reads the keys, so that a slow terminal delays no step. The terminal is restored however
//! the training ends, by an error or a panic too.

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
use ratatui::backend::CrosstermBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::style::Color;
use ratatui::{Frame, Terminal};

pub use self::screen::{About, Screen};
use crate::training::signals::Signals;
use crate::ui::output::WithHint;
use crate::ui::style;

/// The time between two drawings. Keys are handled at once.
const REFRESH: Duration = Duration::from_millis(500);

/// Whether the terminal is in the dashboard's mode and has to be restored.
static IS_OURS: AtomicBool = AtomicBool::new(false);
static HOOK_IS_SET: Once = Once::new();

/// A dashboard that is being shown.
pub struct Tui {
    screen: Arc<Mutex<Screen>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Checks that standard input and standard output are a terminal.
///
/// # Errors
/// If one of them is not.
pub fn check_terminal() -> Result<()> {
    for (is_terminal, name) in
        [(io::stdin().is_terminal(), "standard input"), (io::stdout().is_terminal(), "standard output")]
    {
        if !is_terminal {
            let hint = "leave --tui out: the training's lines and TensorBoard's files have the same figures";
            bail!(WithHint::usage(format!("--tui needs a terminal: {name} is not one"), hint));
        }
    }
    Ok(())
}

/// Whether the terminal shows a dashboard.
pub fn is_shown() -> bool {
    IS_OURS.load(Ordering::SeqCst)
}

/// Restores the terminal, if it is in the dashboard's mode.
pub fn restore_terminal() {
    if IS_OURS.swap(false, Ordering::SeqCst) {
        // There is no terminal to report a failure on.
        let _ = disable_raw_mode();
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    }
}

fn take_terminal() -> Result<Terminal<CrosstermBackend<Stdout>>> {
    HOOK_IS_SET.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore_terminal();
            before(panic);
        }));
    });
    enable_raw_mode().context("--tui: the terminal's mode cannot be set")?;
    IS_OURS.store(true, Ordering::SeqCst);
    let terminal =
        execute!(io::stdout(), EnterAlternateScreen).and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
    terminal.context("--tui: the terminal cannot be drawn on").inspect_err(|_| restore_terminal())
}

impl Tui {
    /// Takes over the terminal and shows `screen` until [`end`](Self::end).
    pub fn start(screen: Screen, signals: Signals) -> Result<Tui> {
        let terminal = take_terminal()?;
        let (screen, end) = (Arc::new(Mutex::new(screen)), Arc::new(AtomicBool::new(false)));
        let drawing = Drawing { screen: Arc::clone(&screen), end: Arc::clone(&end), signals };
        let thread = std::thread::Builder::new().name("dashboard".to_owned()).spawn(move || drawing.run(terminal));
        let thread =
            Some(thread.context("--tui: cannot start the thread that draws").inspect_err(|_| restore_terminal())?);
        Ok(Tui { screen, end, thread })
    }

    /// Locks what is shown, for an update.
    pub fn screen(&self) -> MutexGuard<'_, Screen> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops drawing and restores the terminal.
    pub fn end(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // It ends within a refresh. If it has panicked, the hook has reported that.
            let _ = thread.join();
        }
        restore_terminal();
    }
}

impl Drop for Tui {
    fn drop(&mut self) {
        self.end();
    }
}

/// Leaves the symbols of a drawing and their weight, for terminals and users without colours.
fn remove_colours(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        (cell.fg, cell.bg) = (Color::Reset, Color::Reset);
    }
}

/// The state of the drawing thread.
struct Drawing {
    screen: Arc<Mutex<Screen>>,
    end: Arc<AtomicBool>,
    signals: Signals,
}

/// What a key requests of the training.
#[derive(Debug, PartialEq)]
enum KeyRequest {
    None,
    /// To stop after the current step.
    Stop,
    /// To quit without saving, when a stop was requested before.
    Abort,
}

impl Drawing {
    fn run(self, mut terminal: Terminal<CrosstermBackend<Stdout>>) {
        let has_colours = style::on_stdout();
        while !self.end.load(Ordering::SeqCst) {
            // A copy, so that no step waits for a terminal that blocks.
            let screen = {
                let mut screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
                screen.update_figures();
                screen.is_stopping |= self.signals.stop_requested();
                screen.clone()
            };
            let draw = |frame: &mut Frame<'_>| {
                draw::draw(frame, &screen);
                if !has_colours {
                    remove_colours(frame.buffer_mut());
                }
            };
            if terminal.draw(draw).is_err() {
                // The terminal is gone. The training continues, and a signal still stops it.
                return restore_terminal();
            }
            match event::poll(REFRESH) {
                Ok(true) => self.handle_event(),
                Ok(false) => {}
                Err(_) => return restore_terminal(),
            }
        }
    }

    fn handle_event(&self) {
        let Ok(Event::Key(key)) = event::read() else { return };
        let request = handle_key(&mut self.screen.lock().unwrap_or_else(PoisonError::into_inner), key);
        match request {
            KeyRequest::None => {}
            KeyRequest::Stop | KeyRequest::Abort => self.signals.request_stop(),
        }
    }
}

/// Updates the screen for a key and returns what the key requests.
fn handle_key(screen: &mut Screen, key: KeyEvent) -> KeyRequest {
    if key.kind == KeyEventKind::Release {
        return KeyRequest::None;
    }
    let is_interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        _ if is_interrupt && screen.is_stopping => return KeyRequest::Abort,
        _ if is_interrupt => {}
        KeyCode::Char('y' | 'Y') | KeyCode::Enter if screen.is_asking => {}
        KeyCode::Char('q' | 'Q') if !screen.is_stopping && !screen.is_asking => {
            screen.is_asking = true;
            return KeyRequest::None;
        }
        _ => {
            screen.is_asking = false;
            return KeyRequest::None;
        }
    }
    (screen.is_asking, screen.is_stopping) = (false, true);
    KeyRequest::Stop
}
