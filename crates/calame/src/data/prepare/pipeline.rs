//! The threads of a preparation: one reads, several tokenize, the caller writes in the order of the text.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use super::super::documents::{DocumentSource, Meter, Sources, SpecialTokens};
use super::super::shard_format::{ShardFormat, Split};
use super::error::PrepareError;
use super::feed::{Division, Feed, FeedState, Piece};
use super::job::Job;
use super::options::{PrepareOptions, SplitBy};
use super::progress::{Grain, PrepareObserver, PrepareProgress};
use crate::files::FileError;
use crate::tokenizer::{Encoder, Special, Tokenizer};

/// Batches in flight per tokenizing thread: one being tokenized, one waiting for a thread, one waiting to be
/// written in order. This bounds memory.
const BATCHES_PER_THREAD: usize = 3;

/// Consecutive pieces and the feed's position after them.
struct Batch {
    number: u64,
    pieces: Vec<Piece>,
    after: After,
}

/// The feed's position and state after a batch.
struct After {
    feed: FeedState,
    place: (FeedState, u64),
    hashes: Vec<u128>,
    kept: Vec<(usize, u64)>,
}

/// The token ids of a batch, by split.
struct Encoded {
    number: u64,
    train: Vec<u32>,
    val: Vec<u32>,
    after: After,
}

/// Reads, tokenizes and writes everything that is left; returns false if the observer stopped it.
pub(super) fn run(
    job: &mut Job,
    sources: &Sources,
    tokenizer: &dyn Tokenizer,
    options: &PrepareOptions,
    n_threads: usize,
    grain: Grain,
    observer: &mut dyn PrepareObserver,
) -> Result<bool, PrepareError> {
    assert!(n_threads > 0, "prepare: no thread to tokenise");
    let meter = Meter::default();
    let state = &job.state;
    let seen = std::mem::take(&mut job.seen);
    let start = state.source_start.clone();
    let reading = options.reading();
    let division = division(options, state.n_train_characters, tokenizer);
    let how = (&reading, options.separates(tokenizer));
    let feed = Feed::new(&sources.files, how, division, start, seen, state.n_pieces, meter.clone());
    let coder = Coder { tokenizer, options, end_of_text: job.end_of_text, paths: &sources.files };
    let n_batches = BATCHES_PER_THREAD * n_threads;
    // A batch needs a permit from reading to writing; this bounds the batches in memory.
    let (permit, permits) = sync_channel(n_batches);
    (0..n_batches).for_each(|_| permit.send(()).expect("the other end is here"));
    let (read, batches) = sync_channel(n_batches);
    let (done, encoded) = channel();
    let batches = Mutex::new(batches);
    let folder = job.workplace.folder().to_owned();
    thread::scope(|scope| {
        // Where a thread is refused, those before it end because their channels are dropped.
        let refused = |error| FileError::new("start a thread for", &folder)(error);
        let reader = thread::Builder::new().spawn_scoped(scope, move || read_all(feed, grain, &read, &permits));
        reader.map_err(refused)?;
        for _ in 0..n_threads {
            let (done, batches, coder) = (done.clone(), &batches, &coder);
            let encoder = thread::Builder::new().spawn_scoped(scope, move || coder.encode_all(batches, &done));
            encoder.map_err(refused)?;
        }
        drop(done);
        // This call drops both, so that the other threads end whatever it returns.
        write_all(job, encoded, permit, &meter, grain, observer)
    })
}

/// How documents are assigned to the splits.
fn division<'a>(options: &PrepareOptions, n_train: Option<u64>, tokenizer: &'a dyn Tokenizer) -> Division<'a> {
    match (n_train, options.split) {
        (Some(n_train), _) => Division::Characters { n_train, tokenizer },
        (None, SplitBy::Documents) => Division::Documents { seed: options.seed, val_fraction: options.val_fraction },
        (None, SplitBy::Characters) => Division::None,
    }
}

type Read = Result<Batch, PrepareError>;

/// Reads batches until the end, an error, or a dropped receiver.
fn read_all(mut feed: Feed<'_>, grain: Grain, out: &SyncSender<Read>, permits: &Receiver<()>) {
    for number in 0.. {
        if permits.recv().is_err() {
            return;
        }
        let batch = next_batch(&mut feed, number, grain);
        let is_end = !matches!(&batch, Ok(batch) if !batch.pieces.is_empty());
        if out.send(batch).is_err() || is_end {
            return;
        }
    }
}

/// The next pieces. Empty at the end, where the batch only carries the last state.
fn next_batch(feed: &mut Feed<'_>, number: u64, grain: Grain) -> Read {
    let (mut pieces, mut n_bytes) = (Vec::new(), 0);
    while n_bytes < grain.batch_bytes {
        let Some(piece) = feed.next()? else { break };
        // An empty document counts too, so that a batch of them is limited.
        n_bytes += piece.text.len().max(64);
        pieces.push(piece);
    }
    let (state, place) = (feed.state().clone(), feed.place());
    let after = After { feed: state, place, hashes: feed.take_hashes(), kept: feed.take_kept() };
    Ok(Batch { number, pieces, after })
}

/// Converts batches of pieces into token ids.
struct Coder<'a> {
    tokenizer: &'a dyn Tokenizer,
    options: &'a PrepareOptions,
    end_of_text: Option<u32>,
    paths: &'a [DocumentSource],
}

impl Coder<'_> {
    fn encode_all(&self, batches: &Mutex<Receiver<Read>>, out: &Sender<Result<Encoded, PrepareError>>) {
        let mut encoder = Encoder::new(self.tokenizer);
        loop {
            // The lock is poisoned only if another thread panicked, which ends the whole call.
            let Ok(batches) = batches.lock() else { return };
            let Ok(batch) = batches.recv() else { return };
            drop(batches);
            let encoded = batch.and_then(|batch| self.encode(&mut encoder, batch));
            if out.send(encoded).is_err() {
                return;
            }
        }
    }

    fn encode(&self, encoder: &mut Encoder<'_>, batch: Batch) -> Result<Encoded, PrepareError> {
        let special = match self.options.special_tokens {
            SpecialTokens::Ids => Special::Allow,
            SpecialTokens::Text => Special::AsText,
        };
        let (mut train, mut val) = (Vec::new(), Vec::new());
        for piece in &batch.pieces {
            let ids = if piece.split == Split::Train { &mut train } else { &mut val };
            let failed = |source| {
                let path: PathBuf = self.paths[piece.source].path.clone();
                PrepareError::Tokenizer { path, source }
            };
            match self.end_of_text {
                Some(id) if piece.begins && self.options.format == ShardFormat::Llmc => ids.push(id),
                Some(_) => {}
                // Without marks, documents are joined as in a text: by their separators, or else by a line break.
                None if piece.begins && !piece.begins_text => ids.extend(self.tokenizer.end_of_text()),
                None if piece.continues_line => encoder.encode("\n", special, ids).map_err(failed)?,
                None => {}
            }
            encoder.encode(&piece.text, special, ids).map_err(failed)?;
            if piece.ends && self.options.format == ShardFormat::Nanogpt {
                ids.extend(self.end_of_text);
            }
        }
        Ok(Encoded { number: batch.number, train, val, after: batch.after })
    }
}

/// Writes batches in order; returns false if the observer stopped it. The job's state is that of the last written
/// batch.
fn write_all(
    job: &mut Job,
    encoded: Receiver<Result<Encoded, PrepareError>>,
    permit: SyncSender<()>,
    meter: &Meter,
    grain: Grain,
    observer: &mut dyn PrepareObserver,
) -> Result<bool, PrepareError> {
    let mut waiting: BTreeMap<u64, Encoded> = BTreeMap::new();
    let mut next = 0;
    let mut n_bytes_at_checkpoint = job.state.feed.n_text_bytes;
    for batch in encoded {
        let batch = batch?;
        waiting.insert(batch.number, batch);
        while let Some(batch) = waiting.remove(&next) {
            next += 1;
            write(job, batch)?;
            // Fails once everything has been read, which is fine.
            let _ = permit.send(());
            let n_text_bytes = job.state.feed.n_text_bytes;
            if n_text_bytes - n_bytes_at_checkpoint.min(n_text_bytes) >= grain.checkpoint_bytes
                || job.n_shards() > job.n_shards_at_checkpoint
            {
                job.checkpoint()?;
                n_bytes_at_checkpoint = n_text_bytes;
            }
            let progress = PrepareProgress {
                counting: false,
                n_file_bytes: meter.n_bytes(),
                n_documents: job.state.feed.n_kept,
                n_text_bytes,
                n_tokens: job.n_tokens(),
            };
            if observer.progress(&progress).is_break() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn write(job: &mut Job, batch: Encoded) -> Result<(), PrepareError> {
    job.writer(Split::Train).push(&batch.train)?;
    job.writer(Split::Val).push(&batch.val)?;
    job.workplace.add_seen(&batch.after.hashes)?;
    for (source, n_kept) in batch.after.kept {
        let counts = &mut job.state.n_documents_of;
        counts.resize(counts.len().max(source + 1), 0);
        counts[source] = n_kept;
    }
    job.state.feed = batch.after.feed;
    (job.state.source_start, job.state.n_pieces) = batch.after.place;
    Ok(())
}
