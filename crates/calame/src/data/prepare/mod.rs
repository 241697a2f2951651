//! Converts documents into shards of tokens, in parallel and with bounded memory.
//!
//! One thread reads (`feed`): it finds documents, strips and normalises them, drops duplicates, assigns documents
//! to the two splits, and cuts long ones into pieces. Other threads tokenize batches of pieces. The calling thread
//! writes the ids in the order of the text (`pipeline`), so that the shards do not depend on the number of threads.
//!
//! At intervals the unfinished shards are synced and a state file records how far they are (`state`). A preparation
//! that was killed resumes from there and produces the same shards as an uninterrupted one. It reads the current
//! source again from its start and discards what is already written, so that no reader has to store a position:
//! reading is a small part of the work, and one rule serves all readers.

mod error;
mod feed;
mod filter;
mod job;
mod options;
mod pipeline;
mod progress;
mod state;
mod writer;

use std::fs;
use std::path::Path;

use super::documents::{DocumentError, DocumentSource, Meter, ReadOptions, Sources, SpecialTokens};
use super::findings::ReadReport;
use super::manifest::{MANIFEST, Manifest, ManifestError, SourceEntry};
use crate::files::PathLock;
use crate::tokenizer::Tokenizer;
use feed::{Division, Feed, FeedState};

pub(super) use feed::Piece;
use job::Job;
use state::{State, Workplace};

pub use error::PrepareError;
pub use options::{OptionError, PrepareOptions, SplitBy};
pub use progress::{Grain, PrepareObserver, PrepareProgress, PrepareStart, Prepared};

/// The texts of documents, piece by piece, exactly as a preparation tokenizes them. Every verb that reads documents
/// reads them here.
pub struct Texts<'a> {
    feed: Feed<'a>,
    sources: &'a Sources,
    special_tokens: SpecialTokens,
}

impl<'a> Texts<'a> {
    /// The texts of `sources`. Bytes read from the files are added to `meter`.
    pub fn new(sources: &'a Sources, options: &'a ReadOptions, meter: Meter) -> Texts<'a> {
        let special_tokens = options.special_tokens;
        let how = (options, special_tokens == SpecialTokens::Ids);
        let feed = Feed::new(&sources.files, how, Division::None, FeedState::default(), Vec::new(), 0, meter);
        Texts { feed, sources, special_tokens }
    }

    /// The next piece of at most [`PIECE_BYTES`](super::documents::PIECE_BYTES), or `None` at the end.
    ///
    /// # Errors
    /// Returns an error if a source cannot be read.
    pub fn next_text(&mut self) -> Result<Option<String>, DocumentError> {
        loop {
            match self.feed.next()? {
                Some(piece) if piece.text.is_empty() => {}
                piece => return Ok(piece.map(|piece| piece.text)),
            }
        }
    }

    /// The next piece, which may be empty, and its place in its document.
    pub(super) fn next_piece(&mut self) -> Result<Option<Piece>, DocumentError> {
        self.feed.next()
    }

    /// What was read and noticed so far.
    pub fn report(&self) -> ReadReport {
        let FeedState { n_kept, dropped, findings, .. } = self.feed.state().clone();
        let (skipped, special_tokens) = (self.sources.skipped.clone(), self.special_tokens);
        ReadReport { n_documents: n_kept, dropped, findings, skipped, special_tokens }
    }
}

/// Tokenizes `sources` into shards in `folder` and writes the manifest and the tokenizer next to them.
///
/// `n_threads` threads tokenize; the result does not depend on their number. Memory holds a few batches of text per
/// thread, the tokenizer, and with `dedup` 20 to 40 bytes per document.
///
/// # Errors
/// Returns an error for an invalid option, a folder with other contents or in use by another program, an unreadable source
/// or a full disk. The
/// next call resumes from the last recorded state.
///
/// # Panics
/// If `n_threads` is 0.
pub fn prepare(
    sources: &Sources,
    tokenizer: &dyn Tokenizer,
    options: &PrepareOptions,
    folder: &Path,
    n_threads: usize,
    observer: &mut dyn PrepareObserver,
) -> Result<Prepared, PrepareError> {
    prepare_with(sources, tokenizer, options, folder, n_threads, Grain::default(), observer)
}

/// As [`prepare`], with an explicit [`Grain`].
///
/// # Errors
/// As [`prepare`].
///
/// # Panics
/// As [`prepare`].
pub fn prepare_with(
    sources: &Sources,
    tokenizer: &dyn Tokenizer,
    options: &PrepareOptions,
    folder: &Path,
    n_threads: usize,
    grain: Grain,
    observer: &mut dyn PrepareObserver,
) -> Result<Prepared, PrepareError> {
    options.validate(tokenizer)?;
    // Before the first look at the folder: nothing in it changes from here on but by this call.
    let _lock = PathLock::acquire(folder)?;
    if folder.join(MANIFEST).is_file() {
        return finished_before(sources, tokenizer, options, folder);
    }
    let (workplace, start) = Workplace::enter(folder, state::fingerprint(&sources.files, tokenizer, options))?;
    observer.started(start);
    let Some(state) = first_state(&workplace, sources, tokenizer, options, grain, observer)? else {
        return Ok(Prepared::Stopped);
    };
    workplace.write_tokenizer(&tokenizer.to_json())?;
    let mut job = Job::resume(workplace, state, tokenizer, options)?;
    if !pipeline::run(&mut job, sources, tokenizer, options, n_threads, grain, observer)? {
        job.checkpoint()?;
        return Ok(Prepared::Stopped);
    }
    job.finish(sources, tokenizer, options).map(Prepared::Done)
}

/// The state to resume from: the stored one, or a new one, after counting characters if the split needs it. `None`
/// if the observer stopped the counting.
fn first_state(
    workplace: &Workplace,
    sources: &Sources,
    tokenizer: &dyn Tokenizer,
    options: &PrepareOptions,
    grain: Grain,
    observer: &mut dyn PrepareObserver,
) -> Result<Option<State>, PrepareError> {
    if let Some(state) = workplace.read_state()? {
        return Ok(Some(state));
    }
    let mut state = State::fresh(workplace.fingerprint());
    if options.split == SplitBy::Characters && options.val_fraction > 0.0 {
        let meter = Meter::default();
        let reading = options.reading();
        let how = (&reading, options.separates(tokenizer));
        let start = FeedState::default();
        let mut feed = Feed::new(&sources.files, how, Division::None, start, Vec::new(), 0, meter.clone());
        let mut n_bytes_reported = 0;
        while feed.next()?.is_some() {
            let n_text_bytes = feed.state().n_text_bytes;
            if n_text_bytes - n_bytes_reported < grain.batch_bytes as u64 {
                continue;
            }
            n_bytes_reported = n_text_bytes;
            let progress =
                PrepareProgress { counting: true, n_file_bytes: meter.n_bytes(), ..PrepareProgress::default() };
            if observer.progress(&progress).is_break() {
                return Ok(None);
            }
        }
        let n_characters = feed.state().n_characters;
        // Rounds like the book's int(train_ratio * len(text)).
        state.n_train_characters = Some(((1.0 - options.val_fraction) * n_characters as f64) as u64);
    }
    state.is_ready = true;
    workplace.write_state(&state)?;
    Ok(Some(state))
}

/// Decides whether a folder with a manifest is this preparation, complete, or another one.
fn finished_before(
    sources: &Sources,
    tokenizer: &dyn Tokenizer,
    options: &PrepareOptions,
    folder: &Path,
) -> Result<Prepared, PrepareError> {
    let occupied = |what: &str| PrepareError::Occupied { path: folder.to_owned(), found: what.to_owned() };
    let (manifest, _) = Manifest::read(folder).map_err(|error| match error {
        ManifestError::Foreign { .. } => occupied("a manifest.json of something else"),
        other => other.into(),
    })?;
    if manifest.tokenizer.sha256 != tokenizer.hash() {
        return Err(occupied("a text prepared with another tokenizer"));
    }
    if manifest.options != *options {
        return Err(occupied("a text prepared with other options"));
    }
    let sources = &sources.files;
    let is_same = |(source, entry): (&DocumentSource, &SourceEntry)| {
        source.path.to_string_lossy() == entry.path && source.file_bytes == entry.file_bytes
    };
    if sources.len() != manifest.sources.len() || !sources.iter().zip(&manifest.sources).all(is_same) {
        return Err(occupied("a text prepared from other files"));
    }
    let changed = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let prepared = changed(&folder.join(MANIFEST));
    if let Some(newer) = sources.iter().find(|source| changed(&source.path) > prepared) {
        return Err(occupied(&format!("a text prepared before {} was changed", newer.path.display())));
    }
    // Files that a kill between writing the manifest and clearing up may have left.
    Workplace::clear(folder)?;
    Ok(Prepared::WasDone(manifest))
}
