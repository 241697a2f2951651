//! From documents to shards of tokens, in parallel, with bounded memory.
//!
//! One thread reads (`feed`): it finds documents, takes off what is to be taken off, drops duplicates, deals documents to the
//! two parts, and cuts long ones. Others tokenise batches of these. The calling thread writes the ids in the order of the
//! text (`pipeline`), so that the shards do not depend on the number of threads.
//!
//! Now and then the shards under way are synced and a state file says how far they go (`state`). A preparation that was
//! killed resumes from there, and its shards are those of an uninterrupted one. It replays the source that it was in and
//! discards what is written already, instead of storing a position inside each kind of reader: reading is a small part of
//! the work, and one rule serves all readers.

mod error;
mod feed;
mod job;
mod options;
mod pipeline;
mod progress;
mod state;
mod writer;

use std::fs;
use std::path::Path;

use super::documents::{DocumentError, DocumentSource, Meter};
use super::manifest::{Dropped, MANIFEST, Manifest, ManifestError, SourceEntry};
use crate::tokenizer::Tokenizer;
use feed::{Feed, FeedState};
use job::Job;
use state::{State, Workplace};

pub use error::PrepareError;
pub use options::{Normalisation, OptionError, PrepareOptions, SplitBy};
pub use progress::{Grain, PrepareObserver, PrepareStart, Prepared, Progress};

/// The texts of documents, one piece after another, as a preparation takes them: for whoever learns a tokenizer.
pub struct Texts<'a>(Feed<'a>);

impl<'a> Texts<'a> {
    /// The texts of `sources`; of the options those count that say what a document is and what is dropped. What is read of
    /// the files is added to `meter`.
    pub fn new(sources: &'a [DocumentSource], options: &'a PrepareOptions, meter: Meter) -> Texts<'a> {
        Texts(Feed::new(sources, options, FeedState::default(), Vec::new(), None, 0, meter))
    }

    /// The next piece, at most [`PIECE_BYTES`](super::documents::PIECE_BYTES) of a document; none at the end.
    ///
    /// # Errors
    /// A source that cannot be read.
    pub fn next_text(&mut self) -> Result<Option<String>, DocumentError> {
        Ok(self.0.next()?.map(|piece| piece.text))
    }

    /// What was left out so far.
    pub fn dropped(&self) -> &Dropped {
        &self.0.state().dropped
    }
}

/// Tokenises `sources` into shards in `folder`, with a manifest and the tokenizer beside them.
///
/// `n_threads` threads tokenise; the result does not depend on their number. In memory are some batches of text, the
/// tokenizer, and with `dedup` some 20 to 40 bytes a document.
///
/// # Errors
/// An option that cannot be; a folder with other things in it; a source that cannot be read; a disk that is full. What was
/// done until then is gone on with by the next call, where it was saved.
///
/// # Panics
/// If `n_threads` is 0.
pub fn prepare(
    sources: &[DocumentSource],
    tokenizer: &dyn Tokenizer,
    options: &PrepareOptions,
    folder: &Path,
    n_threads: usize,
    observer: &mut dyn PrepareObserver,
) -> Result<Prepared, PrepareError> {
    prepare_with(sources, tokenizer, options, folder, n_threads, Grain::default(), observer)
}

/// As [`prepare`], cut more or less finely.
///
/// # Errors
/// As [`prepare`].
///
/// # Panics
/// As [`prepare`].
pub fn prepare_with(
    sources: &[DocumentSource],
    tokenizer: &dyn Tokenizer,
    options: &PrepareOptions,
    folder: &Path,
    n_threads: usize,
    grain: Grain,
    observer: &mut dyn PrepareObserver,
) -> Result<Prepared, PrepareError> {
    options.validate(tokenizer)?;
    if folder.join(MANIFEST).is_file() {
        return finished_before(sources, tokenizer, options, folder);
    }
    let (workplace, start) = Workplace::enter(folder, state::fingerprint(sources, tokenizer, options))?;
    observer.started(start);
    let Some(state) = first_state(&workplace, sources, options, grain, observer)? else { return Ok(Prepared::Stopped) };
    workplace.write_tokenizer(&tokenizer.to_json())?;
    let mut job = Job::resume(workplace, state, tokenizer, options)?;
    if !pipeline::run(&mut job, sources, tokenizer, options, n_threads, grain, observer)? {
        job.checkpoint()?;
        return Ok(Prepared::Stopped);
    }
    job.finish(sources, tokenizer, options).map(Prepared::Done)
}

/// The state to go on from: the one that was left, or a fresh one, with the characters counted if they must be. None where
/// the observer ended the counting.
fn first_state(
    workplace: &Workplace,
    sources: &[DocumentSource],
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
        let mut feed = Feed::new(sources, options, FeedState::default(), Vec::new(), None, 0, meter.clone());
        let mut n_bytes_told = 0;
        while feed.next()?.is_some() {
            let n_text_bytes = feed.state().n_text_bytes;
            if n_text_bytes - n_bytes_told < grain.batch_bytes as u64 {
                continue;
            }
            n_bytes_told = n_text_bytes;
            let progress = Progress { counting: true, n_file_bytes: meter.n_bytes(), ..Progress::default() };
            if observer.progress(&progress).is_break() {
                return Ok(None);
            }
        }
        let n_characters = feed.state().n_characters;
        // As the book's int(train_ratio * len(text)).
        state.n_train_characters = Some(((1.0 - options.val_fraction) * n_characters as f64) as u64);
    }
    state.is_ready = true;
    workplace.write_state(&state)?;
    Ok(Some(state))
}

/// What a folder with a manifest means: done already, or somebody else's.
fn finished_before(
    sources: &[DocumentSource],
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
    // What a kill between the manifest and the end may have left.
    Workplace::clear(folder)?;
    Ok(Prepared::WasDone(manifest))
}
