//! Reads the documents of one source in order.

use super::document::{Document, Found};
use super::error::DocumentError;
use super::lines::Lines;
use super::open::Meter;
use super::parquet::Rows;
use super::source::{DocumentSource, SourceKind};
use super::text::TextStream;

/// Names of the parts of a line or row that contain the text.
#[derive(Clone, Debug)]
pub(in crate::data) struct Names<'a> {
    /// The field of a JSON line that contains the text.
    pub field: &'a str,
    /// The column of a Parquet file that contains the text.
    pub column: &'a str,
}

/// Reads one source from its start.
pub(in crate::data) enum Reader {
    Text(Option<TextStream>),
    Lines(Lines),
    Rows(Box<Rows>),
}

impl Reader {
    /// Opens a source; bytes read from the file are added to `meter`.
    pub(in crate::data) fn open(
        source: &DocumentSource,
        names: &Names<'_>,
        meter: &Meter,
    ) -> Result<Reader, DocumentError> {
        Ok(match source.kind {
            SourceKind::Text => Reader::Text(Some(TextStream::open(source, meter)?)),
            SourceKind::JsonLines => Reader::Lines(Lines::open(source, names.field, meter)?),
            SourceKind::Parquet => Reader::Rows(Box::new(Rows::open(source, names.column, meter)?)),
        })
    }

    /// The next document, or `None` at the end.
    pub(in crate::data) fn next(&mut self) -> Result<Option<Found>, DocumentError> {
        match self {
            Reader::Text(stream) => Ok(stream.take().map(|stream| Found::Document(Document::Stream(stream)))),
            Reader::Lines(lines) => lines.next(),
            Reader::Rows(rows) => rows.next(),
        }
    }
}
