//! JSON lines: each line is an object, and one of its fields is the document.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;

use serde::Deserializer;
use serde::de::{self, IgnoredAny, MapAccess, Visitor};

use super::document::{Document, Found, MAX_DOCUMENT_BYTES};
use super::error::DocumentError;
use super::open::{Bytes, Meter, open};
use super::source::DocumentSource;

/// Maximum size of a line in bytes: the document with escapes, and other fields.
const MAX_LINE_BYTES: u64 = 2 * MAX_DOCUMENT_BYTES as u64;

/// Reads a .jsonl file line by line; blank lines are skipped.
pub(crate) struct Lines {
    path: PathBuf,
    field: String,
    bytes: BufReader<Bytes>,
    line: Vec<u8>,
    n_lines: u64,
}

impl Lines {
    pub(super) fn open(source: &DocumentSource, field: &str, meter: &Meter) -> Result<Lines, DocumentError> {
        let bytes = BufReader::with_capacity(256 * 1024, open(source, meter)?);
        Ok(Lines { path: source.path.clone(), field: field.to_owned(), bytes, line: Vec::new(), n_lines: 0 })
    }

    pub(super) fn next(&mut self) -> Result<Option<Found>, DocumentError> {
        loop {
            let fits = self.read_line().map_err(DocumentError::unreadable(&self.path))?;
            if self.line.is_empty() {
                return Ok(None);
            }
            self.n_lines += 1;
            if !fits {
                let reason = format!("more than {MAX_LINE_BYTES} bytes");
                return Ok(Some(Found::Bad(self.n_lines, reason)));
            }
            if self.line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            return Ok(Some(match field_of(&self.line, &self.field) {
                Ok(text) if text.len() > MAX_DOCUMENT_BYTES => {
                    Found::Bad(self.n_lines, format!("a text of more than {MAX_DOCUMENT_BYTES} bytes"))
                }
                Ok(text) => Found::Document(Document::Whole(text)),
                Err(reason) => Found::Bad(self.n_lines, reason),
            }));
        }
    }

    /// Reads a line into `self.line`, which is empty at the end of the file. Returns false if the line is too
    /// long; `self.line` then holds its start.
    fn read_line(&mut self) -> io::Result<bool> {
        self.line.clear();
        // Memory of one long line is not held for all the following ones.
        self.line.shrink_to(1 << 20);
        (&mut self.bytes).take(MAX_LINE_BYTES).read_until(b'\n', &mut self.line)?;
        if (self.line.len() as u64) < MAX_LINE_BYTES || self.line.ends_with(b"\n") {
            return Ok(true);
        }
        loop {
            let found = self.bytes.fill_buf()?;
            let line_break = found.iter().position(|&byte| byte == b'\n');
            let n = line_break.map_or(found.len(), |at| at + 1);
            let is_end = line_break.is_some() || n == 0;
            self.bytes.consume(n);
            if is_end {
                return Ok(false);
            }
        }
    }
}

/// Extracts a text field from a JSON object; other fields are skipped without being built.
fn field_of(line: &[u8], field: &str) -> Result<String, String> {
    let mut json = serde_json::Deserializer::from_slice(line);
    let text = json.deserialize_map(Field(field)).and_then(|text| json.end().map(|()| text));
    match text {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(format!("no field {field:?}")),
        // The caller reports the line number; the parser always counts from line 1.
        Err(error) => Err(error.to_string().replace(" at line 1 column ", " at column ")),
    }
}

struct Field<'a>(&'a str);

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with the text in its field {:?}", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<String>, A::Error> {
        let mut text = None;
        while let Some(key) = map.next_key::<String>()? {
            if key != self.0 {
                map.next_value::<IgnoredAny>()?;
            } else if text.replace(map.next_value::<String>()?).is_some() {
                return Err(de::Error::custom(format!("the field {:?} twice", self.0)));
            }
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_taken_and_others_are_not() {
        let field = |line: &str| field_of(line.as_bytes(), "text");
        assert_eq!(field(r#"{"id": 7, "text": "a\né", "meta": {"text": "b"}}"#).unwrap(), "a\n\u{e9}");
        assert_eq!(field(r#"{"body": "a"}"#).unwrap_err(), r#"no field "text""#);
        for (line, part) in [
            (r#"{"text": 7}"#, "invalid type"),
            (r#"{"text": null}"#, "invalid type"),
            (r#"{"text": "a", "text": "b"}"#, "twice"),
            (r#"["text"]"#, "expected an object"),
            (r#"{"text": "a"} x"#, "trailing"),
            (r#"{"text": "a"#, "EOF"),
        ] {
            let reason = field(line).unwrap_err();
            assert!(reason.contains(part), "{line}: {reason}");
        }
        assert!(field_of(b"{\"text\": \"\xff\"}", "text").is_err());
    }
}
