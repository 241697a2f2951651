//! From files to batches. A [`Corpus`] is a text, [`Windows`] cut the tokens of a split into samples, and a
//! [`Loader`] groups samples into batches.
//!
//! A text that does not fit in memory is first converted into shards of tokens: [`prepare`](prepare::prepare)
//! tokenizes [`documents`], a [`Manifest`] describes the result, and the windows of a [`ShardSet`] are read from
//! the shards by position. Both read the same [`documents`] of a file.
//!
//! Randomness is an argument: the caller passes each epoch's order to the loader. Only [`corpus`], [`names`],
//! [`documents`], [`prepare`], [`manifest`] and [`shards`] open files. Nothing here reads the environment or uses
//! the network: the cache folder of named texts is an argument, and the program downloads them.

mod absolute_input;
mod batch;
mod config;
pub mod corpus;
mod corpus_error;
pub mod documents;
mod findings;
mod ill_formed;
mod inputs;
pub mod loader;
pub mod manifest;
pub mod names;
mod order;
pub mod prepare;
mod shard_format;
mod shard_set;
pub mod shards;
mod skipped;
mod split;
mod splits;
pub mod windows;

pub use absolute_input::absolute_input;
pub use batch::Batch;
pub use config::{DataConfig, DataConfigError};
pub use corpus::{Corpus, CorpusSource};
pub use corpus_error::CorpusError;
pub use documents::{
    DocumentError, DocumentSource, Normalisation, ReadAs, ReadOptions, SourceKind, Sources, SpecialTokens, find_sources,
};
pub use findings::{Dropped, Findings, Occurrences, ReadReport};
pub use ill_formed::IllFormed;
pub use loader::{LISTED_WINDOWS, Loader, LoaderError};
pub use manifest::{Manifest, ManifestError};
pub use names::{NameError, NamedText};
pub use shard_format::{IdWidth, ShardFormat, Split};
pub use shard_set::ShardSet;
pub use shards::{ShardError, TokenShard};
pub use skipped::{SkipReason, SkippedFiles, SkippedGroup};
pub use split::{TextParts, ValidationPart, split_documents, text_sha256};
pub use splits::{Splits, SplitsError};
pub use windows::{Windows, WindowsError, split_by_characters};
