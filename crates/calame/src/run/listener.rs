//! The trait that receives notice of what a recorder writes.

use super::metrics::Record;

/// Follows a recorder: what it has written, and what it could not write.
pub trait RunListener {
    /// Called after a record has been written to `metrics.jsonl`.
    fn record(&mut self, record: &Record) {
        let _ = record;
    }

    /// Called when something could not be written and the training continues without it, or when a step failed.
    fn warning(&mut self, text: &str);

    /// Called when `what`, which exists only in memory, could not be written, for example because the disk is full.
    /// Returns whether to try again; a listener that returns true should wait first.
    fn write_failed(&mut self, what: &str, error: &str) -> bool {
        let _ = (what, error);
        false
    }

    /// Called when the training continues from the state after `n_steps` steps; `records` are the remaining ones.
    fn rolled_back(&mut self, records: &[Record], n_steps: u64) {
        let _ = (records, n_steps);
    }

    /// Whether the training should stop after the current step.
    fn stop_requested(&mut self) -> bool {
        false
    }
}

/// Collects warnings; the default listener of a recorder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warnings {
    texts: Vec<String>,
}

impl Warnings {
    /// The warnings in order; one repeated several times in a row is listed once.
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
