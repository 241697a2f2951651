//! Reads documents one by one from files of any size: text and JSON lines, each plain or compressed, and Parquet.
//!
//! A text file, a field of a JSON line and a row of a Parquet file are a text each. A text is one document, or several
//! that `<|endoftext|>` separates. Memory holds one piece of a text file, one line, or one batch of rows.
//!
//! A file is understood by its ending and its beginning (`inspect`), so that no verb takes structured or binary data for
//! text.

mod cut;
mod document;
mod error;
mod footer;
mod gutenberg;
mod inspect;
mod json;
mod kind;
mod lines;
mod open;
mod options;
mod pages;
mod parquet;
mod pending;
mod reader;
mod source;
mod structure;
mod text;

pub use cut::PIECE_BYTES;
pub(super) use cut::cut_pieces;
pub use document::MAX_DOCUMENT_BYTES;
pub(super) use document::{Document, Found};
pub use error::DocumentError;
pub(super) use gutenberg::Stripper;
pub use kind::{DocumentSource, SourceKind};
pub use open::Meter;
pub use options::{Normalisation, ReadAs, ReadOptions, SpecialTokens};
pub(super) use pending::After;
pub(super) use reader::Reader;
pub use source::{Sources, find_sources};
pub use structure::Format;
