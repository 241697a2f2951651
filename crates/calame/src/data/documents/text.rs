//! A text file as one document, read in pieces.

use std::io::{self, Read};
use std::path::PathBuf;

use super::super::ill_formed::IllFormed;
use super::error::DocumentError;
use super::kind::DocumentSource;
use super::open::{Bytes, Meter, open};
use super::pending::{After, LOOKAHEAD_BYTES, Pending};

/// Bytes read at a time; a quarter of a piece, so that a piece is complete after few reads.
const CHUNK_BYTES: usize = 256 * 1024;

/// Reads a text of any length in pieces, dropping a UTF-8 byte order mark.
pub(crate) struct TextStream {
    path: PathBuf,
    bytes: Bytes,
    chunk: Vec<u8>,
    /// Text that was read but not returned yet.
    text: Pending,
    /// The beginning of a character whose end has not been read yet, at most three bytes.
    begun: Vec<u8>,
    /// Bytes and line breaks before `begun`.
    n_bytes: usize,
    n_line_breaks: usize,
    at_end: bool,
}

impl TextStream {
    pub(super) fn open(source: &DocumentSource, separates: bool, meter: &Meter) -> Result<TextStream, DocumentError> {
        Ok(TextStream {
            path: source.path.clone(),
            bytes: open(source, meter)?,
            chunk: vec![0; CHUNK_BYTES],
            text: Pending::new(separates),
            begun: Vec::new(),
            n_bytes: 0,
            n_line_breaks: 0,
            at_end: false,
        })
    }

    /// Returns the next piece and what follows it, or `None` after the end.
    pub(super) fn next_piece(&mut self) -> Result<Option<(String, After)>, DocumentError> {
        while !self.at_end && self.text.len() < LOOKAHEAD_BYTES {
            self.read_more()?;
        }
        Ok(self.text.take(self.at_end))
    }

    fn read_more(&mut self) -> Result<(), DocumentError> {
        let n = loop {
            match self.bytes.read(&mut self.chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read.map_err(DocumentError::unreadable(&self.path))?,
            }
        };
        if n == 0 {
            self.at_end = true;
            return match self.begun.is_empty() {
                true => Ok(()),
                false => Err(self.not_utf8(IllFormed::CutOff { at: self.n_bytes })),
            };
        }
        self.begun.extend_from_slice(&self.chunk[..n]);
        let valid = match std::str::from_utf8(&self.begun) {
            Ok(text) => text,
            Err(error) if error.error_len().is_none() => {
                std::str::from_utf8(&self.begun[..error.valid_up_to()]).unwrap_or_default()
            }
            Err(error) => return Err(self.not_utf8(self.place_of(error.valid_up_to()))),
        };
        let n_valid = valid.len();
        let is_first = self.n_bytes == 0;
        self.n_bytes += n_valid;
        self.n_line_breaks += valid.bytes().filter(|&byte| byte == b'\n').count();
        self.text.push(if is_first { valid.strip_prefix('\u{FEFF}').unwrap_or(valid) } else { valid });
        self.begun.drain(..n_valid);
        Ok(())
    }

    /// Describes the invalid byte at offset `at` of the bytes just read.
    fn place_of(&self, at: usize) -> IllFormed {
        if self.n_bytes == 0 {
            return IllFormed::of(&self.begun, at, false);
        }
        let line = self.n_line_breaks + 1 + self.begun[..at].iter().filter(|byte| **byte == b'\n').count();
        IllFormed::Byte { byte: self.begun[at], at: at + self.n_bytes, line }
    }

    fn not_utf8(&self, found: IllFormed) -> DocumentError {
        DocumentError::NotUtf8 { path: self.path.clone(), found }
    }
}
