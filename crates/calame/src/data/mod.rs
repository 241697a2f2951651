//! From files to batches: a [`Corpus`] is the text, [`Windows`] cut a part's tokens into samples, a
//! [`Loader`] puts the samples together in batches.
//!
//! Randomness comes from outside: an epoch's order is handed to the loader. Files are opened by
//! [`corpus`], [`names`] and [`shards`] alone, and nothing here reads the environment or knows a network: the
//! folder in which named texts lie is an argument, and fetching them is the program's affair.

pub mod config;
pub mod corpus;
mod corpus_error;
pub mod loader;
pub mod names;
pub mod shards;
pub mod windows;

pub use config::{DataConfig, DataConfigError};
pub use corpus::{Corpus, Source};
pub use corpus_error::{CorpusError, IllFormed};
pub use loader::{Loader, LoaderError};
pub use names::{NameError, NamedText};
pub use shards::{ShardError, TokenShard};
pub use windows::{Windows, WindowsError, split_by_characters};
