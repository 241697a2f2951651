//! The rules of ARCHITECTURE.md and CONTRIBUTING.md that can be checked by reading the repository.
//!
//! Each rule is a function from sources to breaches. Its file tests it on made-up sources; `repository.rs` applies all rules to
//! the repository and holds the lists of breaches that are still allowed. Sources are read as tokens, so that comments and
//! strings are never mistaken for code and the arguments of macros are read too.

mod cycles;
mod dependencies;
mod language;
mod modules;
mod pages;
mod places;
mod repository;
mod sizes;
mod source;

use source::Source;

/// A place that breaks a rule.
#[derive(Clone, Debug, PartialEq)]
struct Breach {
    path: String,
    line: usize,
    rule: String,
}

/// A made-up file.
fn source(path: &str, text: &str) -> Source {
    Source { path: path.into(), text: text.into() }
}

/// The lines of a made-up file that break `rule`.
fn lines(rule: impl Fn(&[Source]) -> Vec<Breach>, path: &str, text: &str) -> Vec<usize> {
    let breaches = rule(&[source(path, text)]);
    breaches.iter().map(|breach| breach.line).collect()
}
