//! Reads documents one by one from files of any size: text and JSON lines, each plain or compressed, and Parquet.
//!
//! A text file is one document and is read in pieces. Each line of a `.jsonl` file and each row of a `.parquet`
//! file is a document. Memory holds one piece of a text, one line, or one batch of rows.

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
