//! Documents one after another, out of files of any size: text, JSON lines, Parquet, the first two compressed or not.
//!
//! A text file is one document, which is read in pieces; a line of a `.jsonl` file is one, and a row of a `.parquet` file.
//! What is held in memory is a piece of a text, a line, or a batch of rows.

mod cut;
mod document;
mod error;
mod footer;
mod gutenberg;
mod lines;
mod open;
mod parquet;
mod reader;
mod source;
mod text;

pub use cut::PIECE_BYTES;
pub use document::MAX_DOCUMENT_BYTES;
pub(super) use document::{Document, Found};
pub use error::DocumentError;
pub(super) use gutenberg::Stripper;
pub use open::Meter;
pub(super) use reader::{Names, Reader};
pub use source::{DocumentSource, SourceKind, find_sources};
