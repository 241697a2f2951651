//! What the program prints, and how it ends.

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::Context;
use calame::checkpoint::CheckpointError;
use calame::tokenizer::TokenizerError;
use calame::train::RunFolderError;

/// How often progress is printed as a line where there is no terminal for a bar.
pub const PLAIN_PROGRESS: Duration = Duration::from_secs(15);

/// An error whose remedy is known.
#[derive(Debug)]
pub struct WithHint {
    message: String,
    /// The remedy, one line.
    hint: String,
    /// Whether it is a [`UsageError`] too.
    usage: bool,
}

impl WithHint {
    pub fn new(message: impl fmt::Display, hint: impl fmt::Display) -> WithHint {
        WithHint { message: message.to_string(), hint: hint.to_string(), usage: false }
    }

    /// As [`new`](Self::new), for what the command line or the settings alone show to be wrong.
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

/// Arguments or settings that are wrong whatever the files hold: exit code 2, as clap's own.
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

/// Whether an error is that nobody reads our output any more.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io_errors = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    io_errors.into_iter().any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// Says what went wrong: `error: …`, and `hint: …` where the remedy is known. Gives the exit code.
pub fn report(error: &anyhow::Error) -> u8 {
    note(&format!("error: {}", message(error)));
    let with_hint = error.downcast_ref::<WithHint>();
    if let Some(hint) = with_hint.map(|e| e.hint.as_str()).or_else(|| known_hint(error)).or_else(|| system_hint(error))
    {
        note(&format!("hint: {hint}"));
    }
    if error.is::<UsageError>() || with_hint.is_some_and(|e| e.usage) { 2 } else { 1 }
}

/// An error and its causes in one line; a cause that the error before it has told already is not told again.
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

/// What helps against errors of the library that do not say so themselves.
fn known_hint(error: &anyhow::Error) -> Option<&'static str> {
    let damaged = "the file is damaged or another one: copy or download it again";
    match (error.downcast_ref(), error.downcast_ref(), error.downcast_ref()) {
        (Some(CheckpointError::Json { .. } | CheckpointError::Tokenizer(TokenizerError::Json { .. })), _, _)
        | (_, Some(TokenizerError::Json { .. }), _) => Some(damaged),
        (Some(CheckpointError::Tensors { .. }), _, _) => {
            Some("both files must come from one model: copy or download them again")
        }
        (_, _, Some(RunFolderError::NoRun { .. })) => {
            Some("give the folder of a run, as `calame train` printed it after \"run\"")
        }
        _ => None,
    }
}

/// What helps where the system refused.
fn system_hint(error: &anyhow::Error) -> Option<&'static str> {
    let kind = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>())?.kind();
    let told = error.is::<CheckpointError>();
    match kind {
        io::ErrorKind::NotFound => Some("check the path: there is no such file or folder"),
        io::ErrorKind::NotADirectory => Some("check the path: a part of it is a file, where a folder is needed"),
        io::ErrorKind::IsADirectory => Some("check the path: this is a folder, where a file is needed"),
        io::ErrorKind::PermissionDenied if !told => {
            Some("this account may not read or write there: change that, or choose another path")
        }
        io::ErrorKind::ReadOnlyFilesystem if !told => Some("nothing can be written there: choose another folder"),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded if !told => {
            Some("the disk is full: free some space, or choose another folder")
        }
        _ => None,
    }
}

/// Writes a line to standard error; if nobody reads it, nothing is lost (`eprintln!` would panic).
pub fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes to standard output at once.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to standard output")
}

/// One JSON object a line, for programs.
pub fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    print(&format!("{value}\n"))
}

/// A word as a shell takes it back.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
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

/// `1 thread`, `2 threads`.
pub fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// 2850000000 as `2.85 GB`.
pub fn gigabytes(bytes: u64) -> String {
    match bytes {
        0..10_000_000_000 => format!("{:.2} GB", bytes as f64 / 1e9),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// Bytes as people say them.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use calame::files::FileError;

    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let told = anyhow::Error::new(gone()).context(format!("cannot read a.txt: {}", gone()));
        assert_eq!(message(&told), format!("cannot read a.txt: {}", gone()));
        let untold = anyhow::Error::new(gone()).context("cannot read a.txt");
        assert_eq!(message(&untold), format!("cannot read a.txt: {}", gone()));
    }

    #[test]
    fn what_the_system_refuses_has_a_hint() {
        let error = |kind| anyhow::Error::new(io::Error::from(kind)).context("cannot write a.txt");
        assert!(system_hint(&error(io::ErrorKind::StorageFull)).unwrap().contains("disk is full"));
        assert!(system_hint(&error(io::ErrorKind::ReadOnlyFilesystem)).unwrap().contains("another folder"));
        assert_eq!(system_hint(&error(io::ErrorKind::Other)), None);
        assert_eq!(system_hint(&anyhow::anyhow!("no system")), None);
        // A model's own error has said it in its line.
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let model = CheckpointError::from(FileError::new("write", Path::new("model"))(full));
        assert!(model.to_string().contains("disk is full"));
        assert_eq!(system_hint(&model.into()), None);
    }

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(quoted("runs/2026-11-23-book"), "runs/2026-11-23-book");
        assert_eq!(quoted("Every effort"), "'Every effort'");
        assert_eq!(quoted("it's $HOME"), "'it'\\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(gigabytes(2_850_000_000), "2.85 GB");
        assert_eq!(gigabytes(21_300_000_000), "21.3 GB");
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(163_009_536), "163,009,536");
        assert_eq!(duration(1.234), "1.2 s");
        assert_eq!(duration(59.6), "1 min 00 s");
        assert_eq!(duration(340.5), "5 min 41 s");
        assert_eq!(duration(7260.0), "2 h 01 min");
    }
}
