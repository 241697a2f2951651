//! How much the program prints beside its results: the flags `-q` and `-v`, which every verb has.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Instant;

use clap::ArgAction;

use super::style;

/// The heading of the flags that choose what is printed.
pub const OUTPUT: &str = "Output";

/// Paths listed by [`opened_all`]; the others are only counted.
const LISTED: usize = 20;

static LEVEL: AtomicU8 = AtomicU8::new(Level::Normal as u8);
/// Set while another part of the program draws on the whole terminal.
static IS_SCREEN_TAKEN: AtomicBool = AtomicBool::new(false);
static STARTED: OnceLock<Instant> = OnceLock::new();

/// What is printed beside the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Errors,
    Warnings,
    Normal,
    Details,
}

/// The flags `-q` and `-v`.
#[derive(clap::Args, Clone, Copy, Debug)]
#[group(skip)]
pub struct Args {
    /// Print only results, warnings and errors (-qq: no warnings)
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "verbose", help_heading = OUTPUT, display_order = 901)]
    quiet: u8,

    /// Print which files are opened, what is being done, and how long it takes
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = OUTPUT, display_order = 902)]
    verbose: u8,
}

impl Args {
    /// Makes the flags' choice the program's.
    pub fn apply(self) {
        STARTED.get_or_init(Instant::now);
        let level = match (self.quiet, self.verbose) {
            (0, 0) => Level::Normal,
            (0, _) => Level::Details,
            (1, _) => Level::Warnings,
            _ => Level::Errors,
        };
        LEVEL.store(level as u8, Ordering::Relaxed);
    }
}

fn level() -> u8 {
    LEVEL.load(Ordering::Relaxed)
}

/// Whether notes and progress are printed.
pub fn shows_notes() -> bool {
    level() >= Level::Normal as u8
}

/// Whether warnings are printed.
pub fn shows_warnings() -> bool {
    level() >= Level::Warnings as u8
}

fn shows_details() -> bool {
    level() >= Level::Details as u8 && !IS_SCREEN_TAKEN.load(Ordering::Relaxed)
}

/// Whether a progress bar is drawn: on a terminal, unless programs read the output or `-q` was given.
pub fn shows_progress(json: bool) -> bool {
    io::stderr().is_terminal() && !json && shows_notes()
}

/// Holds details back while the dashboard has the terminal.
pub fn take_screen(is_taken: bool) {
    IS_SCREEN_TAKEN.store(is_taken, Ordering::Relaxed);
}

/// Prints a detail with the time since the start of the program, if `-v` was given.
pub fn detail(text: impl fmt::Display) {
    if shows_details() {
        let seconds = STARTED.get_or_init(Instant::now).elapsed().as_secs_f64();
        let line = style::dim(&format!("{seconds:8.3} s  {text}"));
        let _ = writeln!(io::stderr().lock(), "{line}");
    }
}

/// Prints the path and the size of a file, or the path of a folder, that is being read.
pub fn opened(path: &Path) {
    if shows_details() {
        match path.metadata() {
            Ok(metadata) if metadata.is_file() => {
                detail(format_args!("opened {} ({} bytes)", path.display(), metadata.len()));
            }
            _ => detail(format_args!("opened {}", path.display())),
        }
    }
}

/// Prints the paths of several files that are being read.
pub fn opened_all<'a>(paths: impl ExactSizeIterator<Item = &'a Path>) {
    let n = paths.len();
    paths.take(LISTED).for_each(opened);
    if n > LISTED {
        detail(format_args!("opened {} more files", n - LISTED));
    }
}

/// A part of the program's work. Its time is printed when it ends, if `-v` was given.
pub struct Phase {
    what: &'static str,
    started: Instant,
}

/// Begins a part of the work, such as "reading the text".
#[must_use = "the phase ends when it is dropped"]
pub fn phase(what: &'static str) -> Phase {
    detail(what);
    Phase { what, started: Instant::now() }
}

impl Drop for Phase {
    fn drop(&mut self) {
        detail(format_args!("{} took {:.3} s", self.what, self.started.elapsed().as_secs_f64()));
    }
}
