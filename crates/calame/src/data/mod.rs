//! From files to batches: a [`Corpus`] is the text, [`Windows`] cut a part's tokens into samples, a
//! [`Loader`] puts the samples together in batches.
//!
//! A text that memory does not hold is made into shards of tokens once, by [`prepare`](prepare::prepare) out of
//! [`documents`]; a [`Manifest`] says what they are, and windows of a [`ShardSet`] are read from them by position.
//!
//! Randomness comes from outside: an epoch's order is handed to the loader. Files are opened by
//! [`corpus`], [`names`], [`documents`], [`prepare`], [`manifest`] and [`shards`] alone, and nothing here reads the environment or knows a network: the
//! folder in which named texts lie is an argument, and fetching them is the program's affair.

mod batch;
mod config;
pub mod corpus;
mod corpus_error;
pub mod documents;
pub mod loader;
pub mod manifest;
pub mod names;
mod order;
pub mod prepare;
mod shard_set;
pub mod shards;
pub mod windows;

pub use batch::Batch;
pub use config::{DataConfig, DataConfigError};
pub use corpus::{Corpus, Source};
pub use corpus_error::{CorpusError, IllFormed};
pub use documents::{DocumentError, DocumentSource, SourceKind, find_sources};
pub use loader::{LISTED_WINDOWS, Loader, LoaderError};
pub use manifest::{IdWidth, Manifest, ManifestError, Part, ShardFormat};
pub use names::{NameError, NamedText};
pub use shard_set::ShardSet;
pub use shards::{ShardError, TokenShard};
pub use windows::{Windows, WindowsError, split_by_characters};
