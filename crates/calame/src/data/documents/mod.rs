//! Documents one after another, out of files of any size: text, JSON lines, Parquet, the first two compressed or not.
//!
//! A text file is one document, which is read in pieces; a line of a `.jsonl` file is one, and a row of a `.parquet` file.
//! What is held in memory is a piece of a text, a line, or a batch of rows.

mod cut;
mod error;
mod footer;
mod gutenberg;
mod lines;
mod open;
mod parquet;
mod source;
mod text;

pub use error::DocumentError;
pub(super) use gutenberg::Stripper;
pub use source::{DocumentSource, SourceKind, find_sources};

use cut::cut_place;
use lines::Lines;
pub use open::Meter;
use parquet::Rows;
use text::TextStream;

/// Bytes of the pieces that a long document is cut into, at most.
pub const PIECE_BYTES: usize = 1 << 20;

/// Bytes of the longest document that is a line or a row.
pub const MAX_DOCUMENT_BYTES: usize = 64 << 20;

/// Which part of a line or a row is the text.
#[derive(Clone, Debug)]
pub(super) struct Names<'a> {
    /// The field of a line of JSON.
    pub field: &'a str,
    /// The column of a Parquet file.
    pub column: &'a str,
}

/// A document, of which no more than a piece need be in memory.
pub(super) enum Document {
    /// A text file.
    Stream(TextStream),
    /// A line or a row.
    Whole(String),
}

impl Document {
    /// The next piece, and whether the document ends with it; none after the last.
    pub(super) fn next_piece(&mut self) -> Result<Option<(String, bool)>, DocumentError> {
        match self {
            Document::Stream(stream) => stream.next_piece(),
            Document::Whole(text) if text.is_empty() => Ok(None),
            Document::Whole(text) if text.len() <= PIECE_BYTES => Ok(Some((std::mem::take(text), true))),
            Document::Whole(text) => {
                let rest = text.split_off(cut_place(text, PIECE_BYTES));
                Ok(Some((std::mem::replace(text, rest), false)))
            }
        }
    }
}

/// What a source gives next.
pub(super) enum Found {
    /// A document.
    Document(Document),
    /// A line or row that is none, by number from 1, and why.
    Bad(u64, String),
}

/// Reads one source from its start.
pub(super) enum Reader {
    Text(Option<TextStream>),
    Lines(Lines),
    Rows(Box<Rows>),
}

impl Reader {
    /// Opens a source; what is read of the file is added to `meter`.
    pub(super) fn open(source: &DocumentSource, names: &Names<'_>, meter: &Meter) -> Result<Reader, DocumentError> {
        Ok(match source.kind {
            SourceKind::Text => Reader::Text(Some(TextStream::open(source, meter)?)),
            SourceKind::JsonLines => Reader::Lines(Lines::open(source, names.field, meter)?),
            SourceKind::Parquet => Reader::Rows(Box::new(Rows::open(source, names.column, meter)?)),
        })
    }

    /// The next document; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Found>, DocumentError> {
        match self {
            Reader::Text(stream) => Ok(stream.take().map(|stream| Found::Document(Document::Stream(stream)))),
            Reader::Lines(lines) => lines.next(),
            Reader::Rows(rows) => rows.next(),
        }
    }
}
