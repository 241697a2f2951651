//! What a preparation reports, and how often.

use std::ops::ControlFlow;

use super::super::manifest::Manifest;

/// Batch size and checkpoint interval of a preparation; the shards do not depend on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grain {
    /// Minimum bytes of text per batch, the unit that one thread tokenizes; the last batch may be smaller.
    /// Default 1 MiB.
    pub batch_bytes: usize,
    /// Bytes of text between two checkpoints, at which shards are synced and the state is written. Default 256
    /// MiB: about two seconds of work to repeat after a kill.
    pub checkpoint_bytes: u64,
}

impl Default for Grain {
    fn default() -> Grain {
        Grain { batch_bytes: 1 << 20, checkpoint_bytes: 256 << 20 }
    }
}

/// How far a preparation has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrepareProgress {
    /// Whether the characters are still being counted for a split by characters, before any token is written.
    pub counting: bool,
    /// Bytes of the files read in this pass, in their compressed form.
    pub n_file_bytes: u64,
    /// Documents whose tokens are written.
    pub n_documents: u64,
    /// Bytes of text in these documents.
    pub n_text_bytes: u64,
    /// Token ids written, in both splits.
    pub n_tokens: u64,
}

/// Result of a preparation that did not fail.
#[derive(Clone, Debug, PartialEq)]
pub enum Prepared {
    /// The folder is now complete.
    Done(Manifest),
    /// The folder was already complete, with the same text and options; nothing was done.
    WasDone(Manifest),
    /// The observer stopped it; the same call resumes it.
    Stopped,
}

/// Where a preparation starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrepareStart {
    /// In a folder without an earlier preparation.
    Fresh,
    /// Where an interrupted preparation of the same text with the same options stopped.
    Resumed,
    /// From the beginning; an interrupted preparation of another text or with other options was removed.
    Restarted,
}

/// Receives the progress of a preparation and may stop it.
pub trait PrepareObserver {
    /// Called once, before anything is read.
    fn started(&mut self, start: PrepareStart);
    /// Called after every batch (about 1 MiB of text). Returning `Break` stops the preparation; its state is
    /// saved first.
    fn progress(&mut self, progress: &PrepareProgress) -> ControlFlow<()>;
}
