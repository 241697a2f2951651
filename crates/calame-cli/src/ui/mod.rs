//! What people see: lines, errors with hints, and the dashboard.

pub mod output;
pub mod tui;
