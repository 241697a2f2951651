//! What a preparation reports, and how finely it is cut.

use std::ops::ControlFlow;

use super::super::manifest::Manifest;

/// How finely a preparation is cut; the shards do not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grain {
    /// Bytes of text that go through the tokenizer together, at least, but for the last.
    pub batch_bytes: usize,
    /// Bytes of text after which the shards under way are synced and the state is written.
    pub checkpoint_bytes: u64,
}

impl Default for Grain {
    fn default() -> Grain {
        Grain { batch_bytes: 1 << 20, checkpoint_bytes: 256 << 20 }
    }
}

/// How far a preparation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Whether the characters are still being counted, which a split by characters needs; tokens come after that.
    pub counting: bool,
    /// Bytes of the files, as they lie on the disk, that were read in this pass.
    pub n_file_bytes: u64,
    /// Documents whose tokens are written.
    pub n_documents: u64,
    /// Bytes of their text.
    pub n_text_bytes: u64,
    /// Tokens written.
    pub n_tokens: u64,
}

/// How a preparation ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Prepared {
    /// The folder is complete.
    Done(Manifest),
    /// The folder was complete before, of the same text and with the same options: nothing was done.
    WasDone(Manifest),
    /// It was asked to stop; the same call goes on.
    Stopped,
}

/// How a preparation starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrepareStart {
    /// In a folder without an earlier preparation.
    Fresh,
    /// Where a stopped preparation of the same text with the same options ended.
    Resumed,
    /// From the beginning: what a stopped preparation left was of another text or made with other options, and is removed.
    Restarted,
}

/// Follows a preparation.
pub trait PrepareObserver {
    /// Called once, before anything is read.
    fn started(&mut self, start: PrepareStart);
    /// Called after every batch of about a megabyte of text; may end the preparation, which saves what is done.
    fn progress(&mut self, progress: &Progress) -> ControlFlow<()>;
}
