//! The user interface on a terminal: lines, errors with hints, progress, and the dashboard.

pub mod display;
pub mod output;
pub mod preparation;
pub mod tui;
