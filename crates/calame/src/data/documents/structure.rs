//! Recognises structured data by the beginning of a file.

use serde::de::IgnoredAny;
use serde_json::Deserializer;

use super::json::without_odd_numbers;

/// The structure that the beginning of a file shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Structure {
    /// Text without a structure that is known here.
    Text,
    /// A JSON object in each line.
    JsonLines,
    /// Structured data of another kind.
    Other(Format),
}

/// A kind of structured data that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON array or object, over several lines.
    Json,
    /// A web page in HTML.
    Html,
    /// Another document of tags.
    Xml,
    /// Values separated by commas, tabs, semicolons or bars.
    Table,
}

impl Format {
    /// The format's name, with an article.
    pub fn name(self) -> &'static str {
        match self {
            Format::Json => "one JSON array or object",
            Format::Html => "an HTML page",
            Format::Xml => "an XML document",
            Format::Table => "a table of separated values (CSV)",
        }
    }

    /// How to turn it into text or lines of JSON.
    pub fn remedy(self) -> &'static str {
        match self {
            Format::Json => "write one object in each line: jq -c '.[]' FILE.json > FILE.jsonl",
            Format::Html => "take its text out, for example: pandoc -f html -t plain FILE.html -o FILE.txt",
            Format::Xml => "take its text out, for example: xmllint --xpath 'string(/)' FILE.xml > FILE.txt",
            Format::Table => {
                "write its rows as lines of JSON, for example: mlr --icsv --ojsonl cat FILE.csv > FILE.jsonl"
            }
        }
    }
}

impl Structure {
    /// The structure of a file that begins with `sample`; `is_whole` says whether it ends there. `ending` is that of
    /// the file's name in lower case, such as `csv`.
    pub(super) fn of(sample: &[u8], is_whole: bool, ending: &str) -> Structure {
        let sample = sample.strip_prefix("\u{feff}".as_bytes()).unwrap_or(sample).trim_ascii_start();
        let found = match sample.first() {
            Some(b'{') => object(sample, is_whole),
            Some(b'[') => array(sample, is_whole),
            Some(b'<') => tags(sample, ending),
            _ => None,
        };
        let table = || is_table(sample, is_whole, ending).then_some(Structure::Other(Format::Table));
        found.or_else(table).unwrap_or(Structure::Text)
    }
}

/// What parsing the beginning of a text as one JSON value says.
#[derive(PartialEq)]
enum Parsed {
    /// A value, which ends at this byte.
    Value(usize),
    /// The beginning of a value.
    Begun,
    /// Neither of these two.
    Other,
}

fn parse(bytes: &[u8]) -> Parsed {
    let bytes = without_odd_numbers(bytes);
    let mut values = Deserializer::from_slice(&bytes).into_iter::<IgnoredAny>();
    match values.next() {
        Some(Ok(_)) => Parsed::Value(values.byte_offset()),
        Some(Err(error)) if error.is_eof() => Parsed::Begun,
        _ => Parsed::Other,
    }
}

/// Whether a whole line is a JSON object.
fn is_object(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    line.starts_with(b"{") && parse(line) == Parsed::Value(line.len())
}

fn object(sample: &[u8], is_whole: bool) -> Option<Structure> {
    let mut lines = sample.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let (first, second, third) = (lines.next()?, lines.next(), lines.next());
    if is_object(first) {
        // The last line of a sample may be cut off.
        let is_complete = is_whole || third.is_some();
        let is_like_first = second.is_none_or(|line| is_object(line) || (!is_complete && line.starts_with(b"{")));
        return is_like_first.then_some(Structure::JsonLines);
    }
    let is_begun = !is_whole && parse(sample) == Parsed::Begun;
    if is_begun && second.is_none() {
        return Some(Structure::JsonLines);
    }
    let is_one = matches!(parse(sample), Parsed::Value(end) if sample[end..].trim_ascii().is_empty());
    (is_begun || is_one).then_some(Structure::Other(Format::Json))
}

fn array(sample: &[u8], is_whole: bool) -> Option<Structure> {
    /// More brackets than real data begins with: a text of brackets.
    const MAX_DEPTH: usize = 64;
    if sample.iter().take_while(|byte| **byte == b'[').count() > MAX_DEPTH {
        return None;
    }
    let is_json = match parse(sample) {
        Parsed::Value(end) => {
            let rest = sample[end..].trim_ascii_start();
            // `[1] A note` is a text; arrays in lines are data.
            rest.is_empty() || (rest.starts_with(b"[") && parse(rest) != Parsed::Other)
        }
        Parsed::Begun => !is_whole,
        Parsed::Other => false,
    };
    is_json.then_some(Structure::Other(Format::Json))
}

fn tags(sample: &[u8], ending: &str) -> Option<Structure> {
    let start = sample[..sample.len().min(256)].to_ascii_lowercase();
    let begins = |marks: &[&str]| marks.iter().any(|mark| start.starts_with(mark.as_bytes()));
    if begins(&["<!doctype html", "<html", "<head", "<body"]) || ["html", "htm", "xhtml"].contains(&ending) {
        return Some(Structure::Other(Format::Html));
    }
    if begins(&["<?xml", "<!doctype", "<svg", "<rss", "<mediawiki", "<tei"]) || ending == "xml" {
        let is_page = start.windows(5).any(|part| part == b"<html");
        return Some(Structure::Other(if is_page { Format::Html } else { Format::Xml }));
    }
    None
}

/// Whether every line has the same number of separators. A file named as a table needs one, another at least eight
/// lines of three values, the first of which are names without a space before them.
fn is_table(sample: &[u8], is_whole: bool, ending: &str) -> bool {
    const MIN_LINES: usize = 8;
    const MAX_LINES: usize = 200;
    let is_named = ["csv", "tsv", "tab"].contains(&ending);
    let mut lines: Vec<&[u8]> = sample.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end).collect();
    if !is_whole {
        // Cut off.
        lines.pop();
    }
    lines.retain(|line| !line.is_empty());
    lines.truncate(MAX_LINES);
    let Some(first) = lines.first() else { return false };
    if ending == "md" {
        return false;
    }
    [b',', b'\t', b';', b'|'].into_iter().any(|separator| {
        let n = n_outside_quotes(first, separator);
        if is_named {
            return n > 0;
        }
        // Prose has a space after a comma, a table does not.
        let is_name = |value: &[u8]| matches!(value.first(), Some(byte) if *byte != b' ') && value.len() <= 40;
        n >= 2
            && lines.len() >= MIN_LINES
            && first.split(|byte| *byte == separator).all(is_name)
            && lines.iter().all(|line| n_outside_quotes(line, separator) == n)
    })
}

fn n_outside_quotes(line: &[u8], separator: u8) -> usize {
    let mut is_quoted = false;
    let mut n = 0;
    for &byte in line {
        is_quoted ^= byte == b'"';
        n += usize::from(byte == separator && !is_quoted);
    }
    n
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Structure {
        Structure::of(text.as_bytes(), true, "txt")
    }

    #[test]
    fn lines_of_json_are_recognised() {
        for text in [
            "{\"text\": \"a\"}\n{\"text\": \"b\"}\n",
            "\u{feff}{\"text\": \"a\", \"x\": NaN}\n\n{\"text\": \"b\"}",
            "{\"text\": \"one line\"}",
            "  {\"a\": -Infinity}\r\n{\"b\": 1}\r\n",
        ] {
            assert_eq!(of(text), Structure::JsonLines, "{text}");
        }
        let long = format!("{{\"text\": \"{}", "a".repeat(1000));
        assert_eq!(Structure::of(long.as_bytes(), false, "json"), Structure::JsonLines);
        let cut = "{\"text\": \"a\"}\n{\"text\": \"b";
        assert_eq!(Structure::of(cut.as_bytes(), false, "jsonl"), Structure::JsonLines);
    }

    #[test]
    fn other_structured_data_is_recognised() {
        let table = "name,age,city\n".to_owned() + &"Ann,\"4,5\",Rome\n".repeat(8);
        for (text, format) in [
            ("[{\"text\": \"a\"},\n{\"text\": \"b\"}]", Format::Json),
            ("[1, 2]\n[3, 4]\n", Format::Json),
            ("{\n  \"cells\": [\n    1\n  ]\n}\n", Format::Json),
            ("<!DOCTYPE html>\n<p>a", Format::Html),
            ("\n <HTML lang=en>", Format::Html),
            ("<?xml version=\"1.0\"?><a/>", Format::Xml),
            (&table, Format::Table),
        ] {
            assert_eq!(of(text), Structure::Other(format), "{text}");
        }
        let begun = "[{\"text\": \"a\"}, {\"text\": \"b";
        assert_eq!(Structure::of(begun.as_bytes(), false, "json"), Structure::Other(Format::Json));
        assert_eq!(Structure::of(b"name,age\nAnn,4\n", true, "csv"), Structure::Other(Format::Table));
    }

    #[test]
    fn texts_are_texts() {
        let poem = "O rose, thou art sick, alas\n".repeat(20);
        for text in [
            "",
            "[1] A note.\n[2] Another.",
            "[link](https://example.org)",
            "{braces} in prose",
            "{",
            "[",
            "{\"a\": 1}\nThis explains the line above.",
            "<div align=center>\n\n# A page\n\n</div>",
            "<3 reeds",
            "one, two, three\nfour, five, six\n",
            &poem,
            &"[".repeat(100_000),
            &"{".repeat(100_000),
        ] {
            assert_eq!(of(text), Structure::Text, "{text:.40}");
        }
        assert_eq!(Structure::of("[".repeat(70_000).as_bytes(), false, "txt"), Structure::Text);
    }
}
