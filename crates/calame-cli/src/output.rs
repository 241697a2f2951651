//! What the program prints, and how it ends.

use std::fmt;
use std::io::{self, Write};

/// An error whose remedy is known.
#[derive(Debug)]
pub struct WithHint {
    message: String,
    /// The remedy, one line.
    pub hint: String,
}

impl WithHint {
    pub fn new(message: impl fmt::Display, hint: impl fmt::Display) -> WithHint {
        WithHint { message: message.to_string(), hint: hint.to_string() }
    }
}

impl fmt::Display for WithHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for WithHint {}

/// Arguments that make no sense together: exit code 2, as clap's own.
#[derive(Debug)]
pub struct UsageError(pub String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Whether an error is that nobody reads our output any more.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io_errors = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    io_errors.into_iter().any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// Writes to standard output at once.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// One JSON object a line, for programs.
pub fn print_json(value: &serde_json::Value) -> io::Result<()> {
    print(&format!("{value}\n"))
}

/// 163009536 as `163,009,536`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// 340.5 as `5 min 40 s`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(163_009_536), "163,009,536");
        assert_eq!(duration(1.234), "1.2 s");
        assert_eq!(duration(59.6), "1 min 00 s");
        assert_eq!(duration(340.5), "5 min 41 s");
        assert_eq!(duration(7260.0), "2 h 01 min");
    }
}
