//! The user interface on a terminal: lines, errors with hints, progress, help, and the dashboard.

pub mod display;
pub mod help;
pub mod invocation;
pub mod output;
pub mod preparation;
pub mod progress;
mod quoting;
pub mod spelling;
pub mod style;
pub mod tui;
pub mod verbosity;
