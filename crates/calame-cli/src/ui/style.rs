//! Colours of the lines on standard error, and whether there are any.
//!
//! `NO_COLOR` turns them off, `CLICOLOR_FORCE` on; otherwise they are for terminals, unless `CLICOLOR` is 0 or `TERM`
//! is `dumb`. clap's messages follow the same rules, with the same colours.

use std::io;

use anstream::{AutoStream, ColorChoice};
use clap::builder::styling::{AnsiColor, Style};

/// The colours of a line that begins with one of these words.
const LABELS: [(&str, Style); 3] = [
    ("error:", AnsiColor::Red.on_default().bold()),
    ("warning:", AnsiColor::Yellow.on_default().bold()),
    ("hint:", AnsiColor::Green.on_default().bold()),
];

/// Whether lines on standard error have colours.
fn on_stderr() -> bool {
    AutoStream::choice(&io::stderr()) != ColorChoice::Never
}

/// Whether the dashboard, which is drawn on standard output, has colours.
pub fn on_stdout() -> bool {
    AutoStream::choice(&io::stdout()) != ColorChoice::Never
}

/// A line for standard error, its first word in colour if it is a label such as `error:`.
pub fn labelled(line: &str) -> String {
    match LABELS.iter().find(|(label, _)| line.starts_with(label)) {
        Some((label, style)) if on_stderr() => format!("{style}{label}{style:#}{}", &line[label.len()..]),
        _ => line.to_owned(),
    }
}

/// A line for standard error in a faint colour.
pub fn dim(line: &str) -> String {
    let style = Style::new().dimmed();
    if on_stderr() { format!("{style}{line}{style:#}") } else { line.to_owned() }
}
