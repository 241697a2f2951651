//! Who follows what a recorder writes.

use super::metrics::Record;

/// Follows a recorder: what it has written, and what it could not write.
pub trait RunListener {
    /// A record is in `metrics.jsonl`.
    fn record(&mut self, record: &Record) {
        let _ = record;
    }

    /// Something is missing from the folder, and the training continues without it; or a step failed.
    fn warning(&mut self, text: &str);

    /// The training continues from the state after `n_steps` steps; `records` are those that remain.
    fn rolled_back(&mut self, records: &[Record], n_steps: u64) {
        let _ = (records, n_steps);
    }

    /// Whether the training should end after the current step.
    fn stop_requested(&mut self) -> bool {
        false
    }
}

/// Collects warnings until they are taken; the listener of a recorder that has no other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warnings {
    texts: Vec<String>,
}

impl Warnings {
    /// The warnings in their order; one that was given several times in a row is listed once.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }
}

impl RunListener for Warnings {
    fn warning(&mut self, text: &str) {
        if self.texts.last().is_none_or(|last| last != text) {
            self.texts.push(text.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_that_is_repeated_is_listed_once() {
        let mut warnings = Warnings::default();
        ["a", "a", "b", "a"].into_iter().for_each(|text| warnings.warning(text));
        assert_eq!(warnings.texts(), ["a", "b", "a"]);
    }
}
