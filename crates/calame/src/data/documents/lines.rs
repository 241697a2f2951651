//! JSON lines: each line is an object, and one of its fields is the document.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;

use serde::de::{self, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::document::{Document, Found, MAX_DOCUMENT_BYTES};
use super::error::DocumentError;
use super::json::without_odd_numbers;
use super::kind::DocumentSource;
use super::open::{Bytes, Meter, open};

/// Maximum size of a line in bytes: the document with escapes, and other fields.
const MAX_LINE_BYTES: u64 = 2 * MAX_DOCUMENT_BYTES as u64;

/// Reads a .jsonl file line by line; blank lines are skipped.
pub(crate) struct Lines {
    path: PathBuf,
    field: String,
    bytes: BufReader<Bytes>,
    line: Vec<u8>,
    n_lines: u64,
    separates: bool,
}

impl Lines {
    pub(super) fn open(
        source: &DocumentSource,
        field: &str,
        separates: bool,
        meter: &Meter,
    ) -> Result<Lines, DocumentError> {
        let bytes = BufReader::with_capacity(256 * 1024, open(source, meter)?);
        let (path, field) = (source.path.clone(), field.to_owned());
        Ok(Lines { path, field, bytes, line: Vec::new(), n_lines: 0, separates })
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
            let line = without_marks(&self.line);
            if line.is_empty() {
                continue;
            }
            return Ok(Some(match field_of(line, &self.field) {
                Ok(text) if text.len() > MAX_DOCUMENT_BYTES => {
                    Found::Bad(self.n_lines, format!("a text of more than {MAX_DOCUMENT_BYTES} bytes"))
                }
                Ok(text) => Found::Document(Document::whole(&text, self.separates)),
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

/// A line without the white space and the marks around it: byte order marks, where files were joined, and the record
/// separators of RFC 7464.
fn without_marks(line: &[u8]) -> &[u8] {
    const MARKS: [&[u8]; 2] = ["\u{feff}".as_bytes(), b"\x1e"];
    let mut line = line.trim_ascii();
    while let Some(rest) = MARKS.iter().find_map(|mark| line.strip_prefix(*mark)) {
        line = rest.trim_ascii_start();
    }
    line
}

/// Extracts a text field from a JSON object; other fields are skipped without being built, and may hold numbers that
/// JSON does not have.
fn field_of(line: &[u8], field: &str) -> Result<String, String> {
    let parse = |line: &[u8]| {
        let mut json = serde_json::Deserializer::from_slice(line);
        json.deserialize_map(Field(field)).and_then(|text| json.end().map(|()| text))
    };
    let text = parse(line).or_else(|error| match without_odd_numbers(line) {
        Cow::Borrowed(_) => Err(error),
        Cow::Owned(line) => parse(&line),
    });
    match text {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(format!("no field {field:?}{}", other_fields(line))),
        // The caller reports the line number; the parser always counts from line 1.
        Err(error) => Err(error.to_string().replace(" at line 1 column ", " at column ")),
    }
}

/// The fields that a line has instead, for an error: the first few.
fn other_fields(line: &[u8]) -> String {
    const MOST: usize = 6;
    let names: Vec<String> = match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(line) {
        Ok(fields) => fields.keys().take(MOST).map(|name| format!("{name:?}")).collect(),
        Err(_) => Vec::new(),
    };
    if names.is_empty() { String::new() } else { format!("; it has {} (see --field)", names.join(", ")) }
}

struct Field<'a>(&'a str);

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with the text in its field {:?}", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<String>, A::Error> {
        let mut text = None;
        while let Some(key) = map.next_key::<Key>()? {
            if key.0 != self.0.as_bytes() {
                map.next_value::<IgnoredAny>()?;
            } else if text.replace(map.next_value::<String>()?).is_some() {
                return Err(de::Error::custom(format!("the field {:?} twice", self.0)));
            }
        }
        Ok(text)
    }
}

/// A key as bytes: the keys of other fields need not be valid text.
struct Key(Vec<u8>);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Key, E> {
                Ok(Key(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_taken_and_others_are_not() {
        let field = |line: &str| field_of(line.as_bytes(), "text");
        assert_eq!(field(r#"{"id": 7, "text": "a\né", "meta": {"text": "b"}}"#).unwrap(), "a\n\u{e9}");
        assert_eq!(
            field(r#"{"body": "a", "id": 1}"#).unwrap_err(),
            r#"no field "text"; it has "body", "id" (see --field)"#
        );
        assert_eq!(field("{}").unwrap_err(), r#"no field "text""#);
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
        // What other fields hold does not matter.
        for other in [
            &b"NaN"[..],
            b"[Infinity, {\"a\": -Infinity}]",
            b"1e999",
            b"\"\\ud800\"",
            b"\"\xff\"",
            b"\"NaN \\\" NaN\"",
            b"0, \"\xfe\": 1",
            b"0, \"\\udc00\": 1",
        ] {
            let line = [b"{\"a\": ", other, b", \"text\": \"NaN\"}"].concat();
            assert_eq!(field_of(&line, "text").unwrap(), "NaN", "{}", String::from_utf8_lossy(&line));
        }
        assert!(field(r#"{"text": NaN}"#).unwrap_err().contains("invalid type"));
    }

    #[test]
    fn marks_around_a_line_are_no_part_of_it() {
        for line in ["{}", "\u{feff}{}", " {} \r\n", "\x1e{}\n", "\u{feff} \u{feff}{}"] {
            assert_eq!(without_marks(line.as_bytes()), b"{}", "{line:?}");
        }
        assert_eq!(without_marks("\u{feff} \n".as_bytes()), b"");
    }
}
