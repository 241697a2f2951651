//! What was noticed while documents were read.

use serde::{Deserialize, Serialize};

use super::corpus_error::CorpusError;
use super::documents::SpecialTokens;
use super::skipped::SkippedFiles;
use crate::tokenizer::END_OF_TEXT;

/// The share of bad lines and rows above which the report of a reading is a warning.
const NOTICEABLE: f64 = 0.01;

/// Documents, lines and rows that were dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropped {
    /// Documents equal to an earlier one.
    pub duplicates: u64,
    /// Files, lines and rows without text, or with white space alone.
    pub empty: u64,
    /// Lines and rows that are not documents.
    pub bad: u64,
    /// The first of these: its file, line or row number, and the reason.
    pub first_bad: Option<String>,
}

/// How often something was found, and where first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Occurrences {
    /// The number of occurrences.
    pub n: u64,
    /// Path of the first file that has one.
    pub first: Option<String>,
}

impl Occurrences {
    pub(super) fn add(&mut self, n: u64, path: impl FnOnce() -> String) {
        if n > 0 {
            self.n += n;
            self.first.get_or_insert_with(path);
        }
    }
}

/// Properties of texts that their author may not know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Findings {
    /// `<|endoftext|>` in the texts.
    pub separators: Occurrences,
    /// Line ends of Windows (CRLF), which are kept.
    pub crlf: Occurrences,
    /// NUL bytes, which are kept.
    pub nul: Occurrences,
    /// Documents without any mark of Project Gutenberg, where its header and licence were to be removed.
    pub without_marks: Occurrences,
}

/// What was read and noticed, for people and programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadReport {
    /// Documents that were kept.
    pub n_documents: u64,
    /// Documents, lines and rows that were dropped.
    pub dropped: Dropped,
    /// Properties of the texts.
    pub findings: Findings,
    /// Files of folders and patterns that were not read.
    pub skipped: SkippedFiles,
    /// What special tokens in a text are.
    pub special_tokens: SpecialTokens,
}

impl ReadReport {
    /// Checks that there is a document in the `n_files` files that were read.
    ///
    /// # Errors
    /// If there is none: the first line or row that is not a document, if there are any.
    pub fn require_documents(&self, n_files: usize) -> Result<(), CorpusError> {
        match (self.n_documents, &self.dropped.first_bad) {
            (0, Some(first)) => Err(CorpusError::AllBad { n_bad: self.dropped.bad, first: first.clone() }),
            (0, None) => Err(CorpusError::NoText { n_files }),
            _ => Ok(()),
        }
    }

    /// Everything worth knowing, a line for each; empty if there is nothing.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.skipped.is_empty() {
            let n = self.skipped.n_files();
            lines.push(format!("note: {n} file{} not read: {}", if n == 1 { " was" } else { "s were" }, self.skipped));
        }
        let Dropped { duplicates, empty, bad, first_bad } = &self.dropped;
        if let Some(first) = first_bad {
            let n_all = self.n_documents + duplicates + empty + bad;
            let share = *bad as f64 / n_all.max(1) as f64;
            let label = if share > NOTICEABLE { "WARNING" } else { "note" };
            lines.push(format!(
                "{label}: {bad} of {n_all} lines and rows ({:.1} %) are not documents and were skipped; the first, {first}",
                100.0 * share
            ));
        }
        if duplicates + empty > 0 {
            lines.push(format!("note: {duplicates} duplicate and {empty} empty documents were dropped"));
        }
        lines.extend(self.findings.lines(self.special_tokens));
        lines
    }
}

impl Findings {
    fn lines(&self, special_tokens: SpecialTokens) -> Vec<String> {
        let Findings { separators, crlf, nul, without_marks } = self;
        let first = |found: &Occurrences| found.first.clone().unwrap_or_default();
        let mut lines = Vec::new();
        if separators.n > 0 {
            let meaning = match special_tokens {
                SpecialTokens::Ids => "separate documents; --special-tokens text reads them as ordinary text",
                SpecialTokens::Text => "are ordinary text; --special-tokens ids makes them separate documents",
            };
            lines.push(format!("note: {} {END_OF_TEXT} in the text {meaning}", separators.n));
        }
        if crlf.n > 0 {
            lines.push(format!(
                "note: {} line ends of Windows (CRLF) are part of the text, the first in {}; remove them: tr -d '\\r' < FILE > NEW_FILE",
                crlf.n,
                first(crlf)
            ));
        }
        if nul.n > 0 {
            lines.push(format!(
                "note: {} NUL bytes are part of the text, the first in {}; remove them: tr -d '\\0' < FILE > NEW_FILE",
                nul.n,
                first(nul)
            ));
        }
        if without_marks.n > 0 {
            lines.push(format!(
                "note: {} documents have no mark of Project Gutenberg and are unchanged, the first in {}",
                without_marks.n,
                first(without_marks)
            ));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_bad_lines_are_a_warning() {
        let report = |n_documents, bad| ReadReport {
            n_documents,
            dropped: Dropped {
                bad,
                first_bad: Some("a.jsonl, line 2: no field \"text\"".to_owned()),
                ..Dropped::default()
            },
            ..ReadReport::default()
        };
        let lines = report(980, 20).lines();
        assert!(lines[0].starts_with("WARNING: 20 of 1000 lines and rows (2.0 %)"), "{lines:?}");
        assert!(lines[0].contains("a.jsonl, line 2"), "{lines:?}");
        assert!(report(995, 5).lines()[0].starts_with("note: 5 of 1000"));
        assert!(ReadReport::default().lines().is_empty());
    }

    #[test]
    fn every_finding_is_reported_with_a_file() {
        let found = |first: &str| Occurrences { n: 7, first: Some(first.to_owned()) };
        let findings =
            Findings { separators: found("s"), crlf: found("c"), nul: found("n"), without_marks: found("m") };
        let lines = ReadReport { findings, ..ReadReport::default() }.lines();
        for (line, parts) in lines.iter().zip([
            ["7 <|endoftext|>", "separate documents"],
            ["7 line ends", "in c;"],
            ["7 NUL bytes", "in n;"],
            ["7 documents have no mark", "in m"],
        ]) {
            assert!(parts.iter().all(|part| line.contains(part)), "{line}");
        }
        assert_eq!(lines.len(), 4);
    }
}
