//! From documents to shards of tokens, in parallel, with bounded memory.
//!
//! One thread reads (`feed`): it finds documents, takes off what is to be taken off, drops duplicates, deals documents to the
//! two parts, and cuts long ones. Others tokenise batches of these. The calling thread writes the ids in the order of the
//! text (`pipeline`), so that the shards do not depend on the number of threads.
//!
//! Now and then the shards under way are synced and a state file says how far they go (`state`). A preparation that was
//! killed is gone on with from there, and its shards are those of an unbroken one.

mod error;
mod feed;
mod options;
mod pipeline;
mod state;
mod writer;

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

pub use error::PrepareError;
pub use options::{Normalisation, PrepareOptions, SplitBy};

use super::documents::{DocumentError, DocumentSource, Meter};
use super::manifest::{Dropped, IdWidth, MANIFEST, Manifest, ManifestError, Part, SourceEntry, TokenizerEntry};
use crate::tokenizer::Tokenizer;
use feed::{Feed, FeedState};
use state::{State, Workplace};
use writer::ShardWriter;

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

/// What a preparation begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Nothing.
    Fresh,
    /// What a stopped preparation of the same text with the same options left.
    GoesOn,
    /// Nothing: what a stopped preparation left was of another text or made with other options, and is thrown away.
    StartsOver,
}

/// Who follows a preparation.
pub trait PrepareObserver {
    /// Told once, before anything is read.
    fn begins(&mut self, beginning: Beginning);
    /// Told after every batch of about a megabyte of text; may end it, with what is done saved.
    fn progress(&mut self, progress: &Progress) -> ControlFlow<()>;
}

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
    let (workplace, beginning) = Workplace::enter(folder, state::fingerprint(sources, tokenizer, options))?;
    observer.begins(beginning);
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

/// A preparation under way: its shards, and the state that goes with them.
struct Job {
    workplace: Workplace,
    state: State,
    /// Hashes of the documents seen before the source that is gone on with.
    seen: Vec<u128>,
    writers: BTreeMap<&'static str, ShardWriter>,
    end_of_text: Option<u32>,
    n_shards_at_checkpoint: usize,
}

impl Job {
    fn resume(
        workplace: Workplace,
        state: State,
        tokenizer: &dyn Tokenizer,
        options: &PrepareOptions,
    ) -> Result<Job, PrepareError> {
        let seen = workplace.resume_seen(state.source_start.n_seen)?;
        let width = IdWidth::of_vocabulary(tokenizer.n_vocab());
        let mut writers = BTreeMap::new();
        for part in [Part::Train, Part::Val] {
            let shards: Vec<_> = state.shards.iter().filter(|shard| shard.split == part).cloned().collect();
            let n_begun = if part == Part::Train { state.n_train_begun } else { state.n_val_begun };
            writers
                .insert(part.name(), ShardWriter::resume(workplace.folder(), part, options, width, shards, n_begun)?);
        }
        let end_of_text = tokenizer.end_of_text().filter(|_| options.end_of_text);
        let n_shards_at_checkpoint = state.shards.len();
        Ok(Job { workplace, state, seen, writers, end_of_text, n_shards_at_checkpoint })
    }

    fn writer(&mut self, part: Part) -> &mut ShardWriter {
        self.writers.get_mut(part.name()).expect("a writer for each part")
    }

    fn n_tokens(&self) -> u64 {
        self.writers.values().map(ShardWriter::n_tokens).sum()
    }

    fn n_shards(&self) -> usize {
        self.writers.values().map(|writer| writer.shards().len()).sum()
    }

    /// Syncs all that is written and notes how far it goes.
    fn checkpoint(&mut self) -> Result<(), PrepareError> {
        for writer in self.writers.values_mut() {
            writer.sync()?;
        }
        self.workplace.sync_seen()?;
        self.state.n_train_begun = self.writer(Part::Train).n_begun();
        self.state.n_val_begun = self.writer(Part::Val).n_begun();
        self.state.shards = self.writers.values().flat_map(ShardWriter::shards).cloned().collect();
        self.n_shards_at_checkpoint = self.state.shards.len();
        self.workplace.write_state(&self.state)
    }

    /// Closes the last shards and writes the manifest, with which the folder is complete.
    fn finish(
        self,
        sources: &[DocumentSource],
        tokenizer: &dyn Tokenizer,
        options: &PrepareOptions,
    ) -> Result<Manifest, PrepareError> {
        let feed = self.state.feed.clone();
        if self.n_tokens() == 0 {
            return Err(match feed.dropped.first_bad {
                Some(first) => PrepareError::AllBad { n_bad: feed.dropped.bad, first },
                None => PrepareError::NoText { n_files: sources.len() },
            });
        }
        let mut shards = Vec::new();
        for writer in self.writers.into_values() {
            shards.extend(writer.finish()?);
        }
        let n_documents = self.state.n_documents_of.clone().into_iter().chain(std::iter::repeat(0));
        let sources = sources.iter().zip(n_documents).map(|(source, n_documents)| SourceEntry {
            path: source.path.to_string_lossy().into_owned(),
            file_bytes: source.file_bytes,
            n_documents,
        });
        let manifest = Manifest {
            version: Manifest::VERSION,
            format: options.format,
            tokenizer: TokenizerEntry {
                kind: tokenizer.kind().to_owned(),
                sha256: tokenizer.hash(),
                vocab_size: tokenizer.n_vocab(),
                end_of_text: tokenizer.end_of_text(),
            },
            id_bytes: IdWidth::of_vocabulary(tokenizer.n_vocab()).n_bytes(),
            n_documents: feed.n_kept,
            n_text_bytes: feed.n_text_bytes,
            shards,
            sources: sources.collect(),
            dropped: feed.dropped,
            options: options.clone(),
        };
        self.workplace.write_manifest(&manifest)?;
        Workplace::clear(self.workplace.folder())?;
        Ok(manifest)
    }
}
