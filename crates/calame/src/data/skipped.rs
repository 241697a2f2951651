//! Files of a folder or a pattern that were not read.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Why a file of a folder or a pattern was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SkipReason {
    /// No text at all, or only white space.
    Empty,
    /// Binary data, or a document of another program.
    Binary,
    /// Text in another encoding than UTF-8.
    NotUtf8,
    /// Structured data that is not text: a JSON array, HTML, CSV.
    Structured,
    /// The system refuses to read it, or it is damaged.
    Unreadable,
    /// Its ending is none of those that are read from a folder.
    OtherEnding,
}

impl SkipReason {
    fn description(self) -> &'static str {
        match self {
            SkipReason::Empty => "empty",
            SkipReason::Binary => "not text",
            SkipReason::NotUtf8 => "not UTF-8",
            SkipReason::Structured => "JSON, CSV or HTML that is not lines of JSON",
            SkipReason::Unreadable => "unreadable or damaged",
            SkipReason::OtherEnding => "with another ending",
        }
    }
}

/// The files that were not read for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkippedGroup {
    /// Why they were not read.
    pub reason: SkipReason,
    /// How many there are.
    pub n_files: u64,
    /// Path of the first one.
    pub example: String,
    /// What was found in it, if that says more than the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
}

/// The files of folders and patterns that were not read, by reason; in the order in which the reasons were met.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SkippedFiles(Vec<SkippedGroup>);

impl SkippedFiles {
    /// The groups of files with the same reason.
    pub fn groups(&self) -> &[SkippedGroup] {
        &self.0
    }

    /// Number of all files that were not read.
    pub fn n_files(&self) -> u64 {
        self.0.iter().map(|group| group.n_files).sum()
    }

    /// Whether every file was read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, path: &Path, reason: SkipReason, details: Option<String>) {
        match self.0.iter_mut().find(|group| group.reason == reason) {
            Some(group) => group.n_files += 1,
            None => {
                let example = path.display().to_string();
                self.0.push(SkippedGroup { reason, n_files: 1, example, details });
            }
        }
    }

    pub(super) fn merge(&mut self, other: SkippedFiles) {
        for group in other.0 {
            match self.0.iter_mut().find(|own| own.reason == group.reason) {
                Some(own) => own.n_files += group.n_files,
                None => self.0.push(group),
            }
        }
    }
}

/// One line: `1 empty (a.txt), 2 not text (such as b.txt)`.
impl fmt::Display for SkippedFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, group) in self.0.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            let such_as = if group.n_files > 1 { "such as " } else { "" };
            let details = group.details.as_ref().map_or(String::new(), |details| format!(": {details}"));
            write!(f, "{comma}{} {} ({such_as}{}{details})", group.n_files, group.reason.description(), group.example)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_and_names_an_example_of_each_reason() {
        let mut skipped = SkippedFiles::default();
        assert!(skipped.is_empty());
        for (name, reason) in
            [("a", SkipReason::Empty), ("b", SkipReason::Binary), ("c", SkipReason::Binary), ("d", SkipReason::Empty)]
        {
            skipped.add(Path::new(name), reason, None);
        }
        skipped.add(Path::new("e"), SkipReason::NotUtf8, Some("UTF-16LE".to_owned()));
        assert_eq!(skipped.n_files(), 5);
        let expected = "2 empty (such as a), 2 not text (such as b), 1 not UTF-8 (e: UTF-16LE)";
        assert_eq!(skipped.to_string(), expected);
    }
}
