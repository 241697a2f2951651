//! Reads the texts of one source in order.

use super::document::{Document, Found};
use super::error::DocumentError;
use super::kind::{DocumentSource, SourceKind};
use super::lines::Lines;
use super::open::Meter;
use super::options::ReadOptions;
use super::parquet::Rows;
use super::text::TextStream;

/// Reads one source from its start.
pub(in crate::data) enum Reader {
    Text(Option<Box<TextStream>>),
    Lines(Lines),
    Rows(Box<Rows>),
}

impl Reader {
    /// Opens a source; bytes read from the file are added to `meter`. `separates` says whether `<|endoftext|>` in a
    /// text separates documents.
    pub(in crate::data) fn open(
        source: &DocumentSource,
        options: &ReadOptions,
        separates: bool,
        meter: &Meter,
    ) -> Result<Reader, DocumentError> {
        Ok(match source.kind {
            SourceKind::Text => Reader::Text(Some(Box::new(TextStream::open(source, separates, meter)?))),
            SourceKind::JsonLines => Reader::Lines(Lines::open(source, &options.field, separates, meter)?),
            SourceKind::Parquet => Reader::Rows(Box::new(Rows::open(source, &options.column, separates, meter)?)),
        })
    }

    /// The next text, or `None` at the end.
    pub(in crate::data) fn next(&mut self) -> Result<Option<Found>, DocumentError> {
        match self {
            Reader::Text(stream) => Ok(stream.take().map(|stream| Found::Document(Document::Stream(*stream)))),
            Reader::Lines(lines) => lines.next(),
            Reader::Rows(rows) => rows.next(),
        }
    }
}
