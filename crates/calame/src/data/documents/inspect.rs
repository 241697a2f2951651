//! Decides by a file's beginning how it is read, or why it is not.

use std::io::Read;
use std::path::Path;

use super::super::corpus_error::CorpusError;
use super::super::ill_formed::{IllFormed, is_binary};
use super::super::skipped::SkipReason;
use super::error::DocumentError;
use super::kind::{Contents, DocumentSource, SourceKind, ending_of};
use super::open::{Meter, open};
use super::options::{ReadAs, ReadOptions};
use super::parquet::check_parquet;
use super::structure::{Format, Structure};
use super::text::TextStream;

/// Bytes of a file's beginning that decide how it is read.
const SAMPLE_BYTES: u64 = 64 << 10;

/// Bytes of text that are checked in a file that can still be skipped; what follows in a longer file is checked when
/// it is read.
const CHECKED_BYTES: usize = 64 << 20;

/// Why a file is not read as documents.
pub(super) enum Rejection {
    Empty,
    /// Only white space, with the size of the file.
    Blank(u64),
    NotText(IllFormed),
    Structured(Format),
    Failed(DocumentError),
}

impl Rejection {
    /// The error of a file that was named itself.
    pub(super) fn into_error(self, path: &Path) -> DocumentError {
        let path = path.to_owned();
        match self {
            Rejection::Empty => CorpusError::Empty { path }.into(),
            Rejection::Blank(file_bytes) => CorpusError::OnlyWhitespace { path, file_bytes }.into(),
            Rejection::NotText(found) => DocumentError::NotUtf8 { path, found },
            Rejection::Structured(found) => DocumentError::Structured { path, found },
            Rejection::Failed(error) => error,
        }
    }

    /// The reason for skipping a file, and what was found in it.
    pub(super) fn reason(&self) -> (SkipReason, Option<String>) {
        match self {
            Rejection::Empty | Rejection::Blank(_) => (SkipReason::Empty, None),
            Rejection::NotText(IllFormed::Binary) => (SkipReason::Binary, None),
            Rejection::NotText(IllFormed::Format { name, .. }) => (SkipReason::Binary, Some((*name).to_owned())),
            Rejection::NotText(IllFormed::ByteOrderMark { encoding } | IllFormed::Unmarked { encoding }) => {
                (SkipReason::NotUtf8, Some((*encoding).to_owned()))
            }
            Rejection::NotText(IllFormed::Byte { byte, at, .. }) => {
                (SkipReason::NotUtf8, Some(format!("byte 0x{byte:02X} at byte {at}")))
            }
            Rejection::NotText(IllFormed::CutOff { .. }) => (SkipReason::NotUtf8, Some("it is cut off".to_owned())),
            Rejection::Structured(format) => (SkipReason::Structured, Some(format.name().to_owned())),
            Rejection::Failed(DocumentError::NotUtf8 { found, .. }) => Rejection::NotText(*found).reason(),
            Rejection::Failed(DocumentError::Unreadable { reason, .. }) => {
                (SkipReason::Unreadable, Some(reason.to_string()))
            }
            Rejection::Failed(DocumentError::Parquet { reason, .. }) => (SkipReason::Unreadable, Some(reason.clone())),
            Rejection::Failed(_) => (SkipReason::Unreadable, None),
        }
    }
}

/// Decides how a file is read. Unless it `is_named` itself, all of it is checked that is checked quickly.
pub(super) fn inspect(
    source: &DocumentSource,
    contents: Contents,
    options: &ReadOptions,
    is_named: bool,
) -> Result<SourceKind, Rejection> {
    if contents == Contents::Parquet {
        if !is_named {
            check_parquet(source).map_err(Rejection::Failed)?;
        }
        return Ok(SourceKind::Parquet);
    }
    let failed = |reason| Rejection::Failed(DocumentError::unreadable(&source.path)(reason));
    let mut sample = Vec::new();
    let stream = open(source, &Meter::default()).map_err(Rejection::Failed)?;
    stream.take(SAMPLE_BYTES).read_to_end(&mut sample).map_err(failed)?;
    let is_whole = (sample.len() as u64) < SAMPLE_BYTES;
    let kind = kind_of(&sample, is_whole, source, contents, options)?;
    if kind == SourceKind::Text && !is_named && !is_whole {
        check_text(source).map_err(Rejection::Failed)?;
    }
    Ok(kind)
}

fn kind_of(
    sample: &[u8],
    is_whole: bool,
    source: &DocumentSource,
    contents: Contents,
    options: &ReadOptions,
) -> Result<SourceKind, Rejection> {
    if sample.is_empty() || (is_whole && sample == "\u{feff}".as_bytes()) {
        return Err(Rejection::Empty);
    }
    if let Some(found) = IllFormed::marked(sample) {
        return Err(Rejection::NotText(found));
    }
    let is_json_lines = match options.read_as {
        ReadAs::Auto => contents == Contents::JsonLines,
        ReadAs::Text => false,
        ReadAs::Jsonl => true,
    };
    match std::str::from_utf8(sample) {
        Ok(text) if is_whole && text.trim_start_matches('\u{feff}').trim_start().is_empty() => {
            return Err(Rejection::Blank(source.file_bytes));
        }
        // Bytes that are not UTF-8 cost only the lines that have them.
        Err(error) if !is_json_lines && (error.error_len().is_some() || is_whole) => {
            let (at, cut_off) = (error.valid_up_to(), error.error_len().is_none());
            return Err(Rejection::NotText(IllFormed::of(sample, at, cut_off)));
        }
        _ => {}
    }
    if sample.contains(&0)
        && let Some(found) = IllFormed::unmarked(sample)
    {
        return Err(Rejection::NotText(found));
    }
    if is_binary(sample) {
        return Err(Rejection::NotText(IllFormed::Binary));
    }
    match options.read_as {
        ReadAs::Text => return Ok(SourceKind::Text),
        ReadAs::Jsonl => return Ok(SourceKind::JsonLines),
        ReadAs::Auto => {}
    }
    match Structure::of(sample, is_whole, &ending_of(&source.path)) {
        Structure::Other(Format::Table) if is_json_lines => Ok(SourceKind::JsonLines),
        Structure::Other(format) => Err(Rejection::Structured(format)),
        Structure::JsonLines => Ok(SourceKind::JsonLines),
        Structure::Text if is_json_lines => Ok(SourceKind::JsonLines),
        Structure::Text => Ok(SourceKind::Text),
    }
}

/// Reads the text of a file up to a limit, so that one that is not UTF-8 is found before any of it is used.
fn check_text(source: &DocumentSource) -> Result<(), DocumentError> {
    let mut stream = TextStream::open(source, false, &Meter::default())?;
    let mut n_bytes = 0;
    while let Some((piece, _)) = stream.next_piece()? {
        n_bytes += piece.len();
        if n_bytes >= CHECKED_BYTES {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::documents::find_sources;

    /// The kind of a file with this name and these bytes, or why it is not read.
    fn inspected(name: &str, bytes: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let found = find_sources(&[path.to_str().unwrap()], folder.path(), &ReadOptions::default());
        found.map_or_else(|error| error.to_string(), |sources| format!("{:?}", sources.files[0].kind))
    }

    #[test]
    fn files_are_read_as_what_they_are() {
        let lines = b"{\"text\": \"a\"}\n{\"text\": \"b\"}\n";
        for name in ["a.jsonl", "a.JSON", "a.ndjson", "a.txt", "a", "a.log"] {
            assert_eq!(inspected(name, lines), "JsonLines", "{name}");
        }
        for name in ["a.txt", "a.MD", "a.log", "README", "a.rs"] {
            assert_eq!(inspected(name, b"A reed, a pen.\n"), "Text", "{name}");
        }
        let utf16: Vec<u8> = "A reed and a pen.\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (name, bytes, part) in [
            ("a.txt", &utf16[..], "UTF-16LE without a byte order mark"),
            ("a.jsonl", &utf16, "UTF-16LE without a byte order mark"),
            ("a.txt", &[0, 1, 2, 255].repeat(99), "binary data"),
            ("a.txt", &[0; 99], "binary data"),
            ("a.json", b"[{\"text\": \"a\"}]", "jq -c"),
            ("a.jsonl", b"[{\"text\": \"a\"}]", "jq -c"),
            ("a.html", b"<p>One", "pandoc"),
            ("a.csv", b"name,age\nAnn,4\n", "mlr --icsv"),
            ("a.txt", b"%PDF-1.7 text", "pdftotext"),
        ] {
            let found = inspected(name, bytes);
            assert!(found.contains(part) && found.contains(name), "{name}: {found}");
        }
        assert_eq!(inspected("a.txt", b"A text with \0 in it, and more words."), "Text");
    }
}
