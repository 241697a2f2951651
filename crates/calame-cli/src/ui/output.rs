//! Lines on standard output and standard error, errors with hints, exit codes, and figures with their units.

use std::fmt;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use calame::formats::CheckpointError;
use calame::run::RunFolderError;
use calame::tokenizer::TokenizerError;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub use super::quoting::{quoted, visible};
use super::verbosity::{shows_notes, shows_warnings};
use super::{invocation, style};

/// The least time between two lines of progress, which are printed where there is no terminal for a bar.
pub const PLAIN_PROGRESS: Duration = Duration::from_secs(15);

/// An error whose remedy is known.
#[derive(Debug)]
pub struct WithHint {
    message: String,
    /// The remedy, in one line.
    hint: String,
    /// Whether the exit code is 2, as for a [`UsageError`].
    usage: bool,
}

impl WithHint {
    pub fn new(message: impl fmt::Display, hint: impl fmt::Display) -> WithHint {
        WithHint { message: message.to_string(), hint: hint.to_string(), usage: false }
    }

    /// Like [`new`](Self::new), for an error in the command line or the settings, whatever the files contain.
    pub fn usage(message: impl fmt::Display, hint: impl fmt::Display) -> WithHint {
        WithHint { usage: true, ..WithHint::new(message, hint) }
    }
}

impl fmt::Display for WithHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for WithHint {}

/// Arguments or settings that are wrong whatever the files contain. The exit code is 2, as for errors of clap.
#[derive(Debug)]
pub struct UsageError(pub String);

impl UsageError {
    pub fn from(error: impl fmt::Display) -> UsageError {
        UsageError(error.to_string())
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Whether the cause of an error is a closed pipe: the reader of our output has exited.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io_errors = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    io_errors.into_iter().any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// Prints `error: …` and, if a remedy is known, `hint: …` on standard error; with `json` also an event for programs on
/// standard output. Returns the exit code.
pub fn report(error: &anyhow::Error, json: bool) -> u8 {
    let text = message(error);
    note(&format!("error: {text}"));
    let with_hint = error.downcast_ref::<WithHint>();
    let hint = with_hint.map(|e| e.hint.as_str()).or_else(|| known_hint(error)).or_else(|| system_hint(error));
    if let Some(hint) = hint {
        note(&format!("hint: {hint}"));
    }
    let code = if error.is::<UsageError>() || with_hint.is_some_and(|e| e.usage) { 2 } else { 1 };
    if json {
        print_error_event(&text, hint, code);
    }
    code
}

/// Prints an error as an event. A failure to print it is ignored: the error is on standard error too.
pub fn print_error_event(message: &str, hint: Option<&str>, code: u8) {
    let time = timestamp(SystemTime::now());
    let (message, hint) = (invocation::adapted(message), hint.map(invocation::adapted));
    let event = json!({ "event": "error", "time": time, "message": message, "hint": hint, "exit_code": code });
    let _ = print_json(&event);
}

/// A time as RFC 3339 in UTC, such as `2026-11-23T14:05:09Z`, without fractions of a second.
pub fn timestamp(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    let time = time.replace_nanosecond(0).unwrap_or(time);
    time.format(&Rfc3339).unwrap_or_default()
}

/// An error and its causes in one line. A cause that is already part of the text is not repeated.
pub fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// The remedy for errors of the library that do not name one.
fn known_hint(error: &anyhow::Error) -> Option<&'static str> {
    let damaged = "the file is damaged or not the expected one: copy or download it again";
    match (error.downcast_ref(), error.downcast_ref(), error.downcast_ref()) {
        (Some(CheckpointError::Json { .. } | CheckpointError::Tokenizer(TokenizerError::Json { .. })), _, _)
        | (_, Some(TokenizerError::Json { .. }), _) => Some(damaged),
        (Some(CheckpointError::Tensors { .. }), _, _) => {
            Some("both files must come from one model: copy or download them again")
        }
        (_, _, Some(RunFolderError::NoRun { .. } | RunFolderError::Missing { .. })) => {
            Some("give the folder of a run, as `calame train` printed it after \"run\", or its name under runs/")
        }

        _ => None,
    }
}

/// The remedy for errors of the operating system.
fn system_hint(error: &anyhow::Error) -> Option<&'static str> {
    let kind = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>())?.kind();
    let has_remedy = error.is::<CheckpointError>();
    match kind {
        io::ErrorKind::NotFound => Some("check the path: there is no such file or folder"),
        io::ErrorKind::NotADirectory => Some("check the path: one of its folders is a file"),
        io::ErrorKind::IsADirectory => Some("check the path: this is a folder, expected a file"),
        io::ErrorKind::PermissionDenied if !has_remedy => {
            Some("this account may not read or write there: change the permissions, or choose another path")
        }
        io::ErrorKind::ReadOnlyFilesystem if !has_remedy => Some("nothing can be written there: choose another folder"),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded if !has_remedy => {
            Some("the disk is full: free some space, or choose another folder")
        }
        _ => None,
    }
}

/// Writes a line to standard error, unless `-q` or `-qq` hides lines of its kind: an error, a hint, a warning, or anything
/// else. Commands in it begin as the program was started. Failures are ignored, where `eprintln!` would panic.
pub fn note(line: &str) {
    let is = |label| line.starts_with(label);
    let is_shown = is("error:") || is("hint:") || if is("warning:") { shows_warnings() } else { shows_notes() };
    if is_shown {
        let _ = writeln!(io::stderr().lock(), "{}", style::labelled(&invocation::adapted(line)));
    }
}

/// Writes to standard output and flushes it.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to standard output")
}

/// Prints a JSON object as one line, for programs.
pub fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    print(&format!("{value}\n"))
}

/// A number with its digits in groups of three: `163,009,536`.
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

/// A time with its unit: 340.5 s is `5 min 40 s`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    match whole {
        0..10 if seconds < 9.95 => format!("{seconds:.1} s"),
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        3600..172_800 => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
        _ => format!("{} days {} h", whole / 86_400, whole / 3600 % 24),
    }
}

/// A count with its noun: `1 thread`, `2 threads`.
pub fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// The steps of a training: `80 total over 10 epochs`, or `7 total (train.max_steps)` if it ends before its epochs.
pub fn steps_over(n_steps: u64, per_epoch: u64, epochs: u64) -> String {
    let n = grouped(n_steps);
    if n_steps < per_epoch.saturating_mul(epochs) {
        return format!("{n} total (train.max_steps)");
    }
    format!("{n} total over {epochs} epoch{}", if epochs == 1 { "" } else { "s" })
}

/// Bytes with three digits in the unit that suits them: `512 B`, `1.50 kB`, `20.0 MB`, `2.85 GB`. Memory, disk space and
/// files are all printed like this.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let (mut x, mut unit) = (bytes as f64 / 1e3, 0);
    // What would be rounded to 1000 belongs to the next unit.
    while x >= 999.5 && unit + 1 < UNITS.len() {
        (x, unit) = (x / 1e3, unit + 1);
    }
    let n_decimals = if x < 9.995 {
        2
    } else if x < 99.95 {
        1
    } else {
        0
    };
    format!("{x:.n_decimals$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use calame::files::FileError;

    use super::*;

    #[test]
    fn a_cause_is_named_once() {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let named = anyhow::Error::new(gone()).context(format!("cannot read a.txt: {}", gone()));
        assert_eq!(message(&named), format!("cannot read a.txt: {}", gone()));
        let unnamed = anyhow::Error::new(gone()).context("cannot read a.txt");
        assert_eq!(message(&unnamed), format!("cannot read a.txt: {}", gone()));
    }

    #[test]
    fn errors_of_the_system_have_hints() {
        let error = |kind| anyhow::Error::new(io::Error::from(kind)).context("cannot write a.txt");
        assert!(system_hint(&error(io::ErrorKind::StorageFull)).unwrap().contains("disk is full"));
        assert!(system_hint(&error(io::ErrorKind::ReadOnlyFilesystem)).unwrap().contains("another folder"));
        assert_eq!(system_hint(&error(io::ErrorKind::Other)), None);
        assert_eq!(system_hint(&anyhow::anyhow!("no system")), None);
        // A model's own error already contains its remedy.
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let model = CheckpointError::from(FileError::new("write", Path::new("model"))(full));
        assert!(model.to_string().contains("disk is full"));
        assert_eq!(system_hint(&model.into()), None);
    }

    #[test]
    fn figures_have_units() {
        let sizes = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (15_360, "15.4 kB"),
            (20_000_000, "20.0 MB"),
            (999_499_999, "999 MB"),
            (999_500_000, "1.00 GB"),
            (2_850_000_000, "2.85 GB"),
            (21_300_000_000, "21.3 GB"),
            (u64::MAX, "18.4 EB"),
        ];
        for (bytes, shown) in sizes {
            assert_eq!(size(bytes), shown);
        }
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(163_009_536), "163,009,536");
        assert_eq!(duration(1.234), "1.2 s");
        assert_eq!(duration(59.6), "1 min 00 s");
        assert_eq!(duration(340.5), "5 min 41 s");
        assert_eq!(duration(7260.0), "2 h 01 min");
        assert_eq!(duration(3239.0 * 3600.0), "134 days 23 h");
        assert_eq!(duration(9.96), "10 s");
        assert_eq!(
            timestamp(SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_756_394_500)),
            "2026-11-27T05:13:14Z"
        );
    }
}
