//! Describes bytes that are not UTF-8 text: other encodings, binary formats, damage.

use std::fmt;

/// Where and how a file is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IllFormed {
    /// The file begins with a byte order mark of UTF-16 or UTF-32.
    ByteOrderMark {
        /// The encoding of that mark.
        encoding: &'static str,
    },
    /// The file is in UTF-16 or UTF-32, without a byte order mark.
    Unmarked {
        /// The encoding, with its byte order.
        encoding: &'static str,
    },
    /// The file begins like a file of another format.
    Format {
        /// Name of that format, with an article.
        name: &'static str,
        /// How to turn it into text.
        remedy: &'static str,
    },
    /// The file is a program, an image or the like: it has many bytes that no text has.
    Binary,
    /// A byte that is invalid at its position.
    Byte {
        /// The invalid byte's value.
        byte: u8,
        /// Byte offset from 0.
        at: usize,
        /// Line number from 1.
        line: usize,
    },
    /// The file ends inside a multi-byte character.
    CutOff {
        /// Byte offset at which that character begins, from 0.
        at: usize,
    },
}

impl fmt::Display for IllFormed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByteOrderMark { encoding } => write!(
                f,
                "the byte order mark of {encoding} at its start; convert the file: \
                 iconv -f {encoding} -t UTF-8 FILE > NEW_FILE"
            ),
            Self::Unmarked { encoding } => write!(
                f,
                "{encoding} without a byte order mark; convert the file: \
                 iconv -f {encoding} -t UTF-8 FILE > NEW_FILE"
            ),
            Self::Format { name, remedy } => write!(f, "the beginning of {name}; {remedy}"),
            Self::Binary => {
                write!(f, "binary data; give files of text, or export the document as plain text from its program")
            }
            Self::Byte { byte, at, line } => write!(
                f,
                "byte 0x{byte:02X} at byte {at} (line {line}); convert the file from its encoding, \
                 for example: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW_FILE"
            ),
            Self::CutOff { at } => write!(
                f,
                "an end inside the character that begins at byte {at}; the file seems cut off: \
                 fetch it again, or remove its last bytes"
            ),
        }
    }
}

/// First bytes of formats that are often mistaken for text, what they are, and what to do with them.
const FORMATS: [(&[u8], &str, &str); 10] = [
    (b"%PDF-", "a PDF document", "take its text out, for example: pdftotext FILE.pdf FILE.txt"),
    (b"\x1F\x8B", "a gzip archive", "unpack it: gunzip < FILE > NEW_FILE; or give it its ending: FILE.txt.gz is read"),
    (
        b"\x28\xB5\x2F\xFD",
        "a zstd archive",
        "unpack it: zstd -d < FILE > NEW_FILE; or give it its ending: FILE.txt.zst is read",
    ),
    (b"\xFD7zXZ\0", "an xz archive", "unpack it: unxz < FILE > NEW_FILE"),
    (b"BZh91AY&SY", "a bzip2 archive", "unpack it: bunzip2 < FILE > NEW_FILE"),
    (
        b"PK\x03\x04",
        "a zip archive (a .docx, .odt or .epub is one too)",
        "unpack it, or save the document as plain text",
    ),
    (b"PAR1\x15", "a Parquet file", "give it its ending: FILE.parquet is read"),
    (b"{\\rtf", "an RTF document", "save it as plain text, for example: pandoc FILE.rtf -t plain -o FILE.txt"),
    (b"\xD0\xCF\x11\xE0", "an old Office document", "open it and save it as plain text"),
    (b"SQLite format 3\0", "an SQLite database", "export the column of text as JSON lines or CSV"),
];

impl IllFormed {
    /// Describes the first byte that is not UTF-8, at byte `at` of the beginning of a file.
    pub(super) fn of(bytes: &[u8], at: usize, cut_off: bool) -> IllFormed {
        if let Some(found) = Self::marked(bytes).or_else(|| Self::unmarked(bytes)) {
            return found;
        }
        if is_binary(bytes) {
            return IllFormed::Binary;
        }
        if cut_off {
            return IllFormed::CutOff { at };
        }
        let line = bytes[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        IllFormed::Byte { byte: bytes[at], at, line }
    }

    /// The encoding or format that the first bytes of a file announce.
    pub(super) fn marked(bytes: &[u8]) -> Option<IllFormed> {
        // The byte order mark of UTF-32LE begins with that of UTF-16LE.
        const MARKS: [(&[u8], &str); 3] =
            [(&[0xFF, 0xFE, 0, 0], "UTF-32"), (&[0xFF, 0xFE], "UTF-16"), (&[0xFE, 0xFF], "UTF-16")];
        if let Some((_, encoding)) = MARKS.iter().find(|(mark, _)| bytes.starts_with(mark)) {
            return Some(IllFormed::ByteOrderMark { encoding });
        }
        let (_, name, remedy) = FORMATS.iter().find(|(start, ..)| bytes.starts_with(start))?;
        Some(IllFormed::Format { name, remedy })
    }

    /// UTF-16 or UTF-32 without a byte order mark: bytes that are text with white space if they are decoded so.
    pub(super) fn unmarked(bytes: &[u8]) -> Option<IllFormed> {
        let bytes = &bytes[..bytes.len().min(4096)];
        let unit32 = |of: fn([u8; 4]) -> u32| {
            let units = bytes.as_chunks().0.iter().map(|unit| char::from_u32(of(*unit)));
            units.collect::<Option<Vec<char>>>()
        };
        let unit16 = |of: fn([u8; 2]) -> u16| {
            // The last unit may be the first half of a pair.
            let units: Vec<u16> = bytes.as_chunks().0.iter().map(|unit| of(*unit)).collect();
            let whole = match units.split_last() {
                Some((last, rest)) if (0xD800..0xDC00).contains(last) => rest,
                _ => &units[..],
            };
            char::decode_utf16(whole.iter().copied()).collect::<Result<Vec<char>, _>>().ok()
        };
        let candidates = [
            ("UTF-32LE", unit32(u32::from_le_bytes)),
            ("UTF-32BE", unit32(u32::from_be_bytes)),
            ("UTF-16LE", unit16(u16::from_le_bytes)),
            ("UTF-16BE", unit16(u16::from_be_bytes)),
        ];
        let is_text = |text: &Option<Vec<char>>| text.as_ref().is_some_and(|text| reads_as_text(text));
        let (encoding, _) = candidates.into_iter().find(|(_, text)| is_text(text))?;
        Some(IllFormed::Unmarked { encoding })
    }
}

/// Whether characters are those of a text: nearly all letters, numbers, white space and common punctuation, with some
/// spaces or line breaks among them.
fn reads_as_text(text: &[char]) -> bool {
    let n_spaces = text.iter().filter(|c| matches!(c, ' ' | '\n' | '\u{3000}')).count();
    let is_usual = |c: &&char| {
        c.is_alphanumeric()
            || c.is_ascii_punctuation()
            || matches!(c, ' ' | '\n' | '\r' | '\t' | '\u{3000}'..='\u{303F}' | '\u{2010}'..='\u{203A}' | '\u{300}'..='\u{36F}')
    };
    let n_usual = text.iter().filter(is_usual).count();
    text.len() >= 4 && 50 * n_spaces >= text.len() && 20 * n_usual >= 19 * text.len()
}

/// Whether bytes are those of a program or an image rather than of a text in any encoding: more than one in ten is a
/// control character, or there are zeros besides bytes that are not UTF-8.
pub(super) fn is_binary(bytes: &[u8]) -> bool {
    let is_control = |byte: &&u8| matches!(byte, 0..=8 | 14..=26 | 28..=31 | 127);
    let n_control = bytes.iter().filter(is_control).count();
    // A character may be cut off at the end of a sample.
    let is_utf8 = std::str::from_utf8(bytes).map_or_else(|error| error.error_len().is_none(), |_| true);
    10 * n_control > bytes.len() || (!is_utf8 && bytes.contains(&0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, big_endian: bool) -> Vec<u8> {
        let bytes = |unit: u16| if big_endian { unit.to_be_bytes() } else { unit.to_le_bytes() };
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn encodings_are_recognised_without_a_mark() {
        for text in [
            "A reed, a pen.\nInk!",
            "Тростник и перо",
            "Ένα καλάμι, μία πένα",
            "葦の筆 と 墨\n",
            "\u{1f58b} pens, ink, reeds and words",
        ] {
            for (encoding, bytes) in [("UTF-16LE", utf16(text, false)), ("UTF-16BE", utf16(text, true))] {
                assert_eq!(IllFormed::unmarked(&bytes), Some(IllFormed::Unmarked { encoding }), "{text}");
            }
            let utf32: Vec<u8> = text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
            assert_eq!(IllFormed::unmarked(&utf32), Some(IllFormed::Unmarked { encoding: "UTF-32LE" }), "{text}");
        }
    }

    #[test]
    fn other_bytes_are_no_encoding() {
        let all: Vec<u8> = (0..=255).collect();
        for bytes in
            [&all[..], b"", b"\0\0\0\0\0\0", "caf\u{e9} au lait, deux cr\u{e8}mes".as_bytes(), b"caf\xe9 au lait "]
        {
            assert_eq!(IllFormed::unmarked(bytes), None, "{bytes:?}");
        }
        assert!(is_binary(&all.repeat(40)) && is_binary(b"\x7fELF\x02\x01\x01\0\0\0\0"));
        assert!(!is_binary(b"caf\xe9") && !is_binary(b"a text with one \0 in it") && !is_binary(b"\x1b[1mbold\x1b[0m"));
    }
}
