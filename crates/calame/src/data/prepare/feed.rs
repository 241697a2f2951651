//! Reads documents from the sources and prepares them for tokenizing, piece by piece.

use std::collections::{HashSet, VecDeque};

use rustc_hash::FxBuildHasher;
use serde::{Deserialize, Serialize};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::super::documents::{Document, DocumentError, DocumentSource, Found, Meter, Reader, SourceKind, Stripper};
use super::super::manifest::Dropped;
use super::super::shard_format::Split;
use super::options::{Normalisation, PrepareOptions, SplitBy};
use crate::files::Sha256;
use crate::rng::{self, Purpose, Sequence};

/// A piece of a document.
#[derive(Debug)]
pub(super) struct Piece {
    pub text: String,
    pub split: Split,
    /// Whether the document begins and ends with this piece.
    pub begins: bool,
    pub ends: bool,
    /// Index of the source it comes from.
    pub source: usize,
}

/// What has been read and kept so far; stored in the state file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FeedState {
    /// Index of the current source.
    pub source: usize,
    /// Documents read, including dropped ones.
    pub n_documents: u64,
    /// Documents kept, excluding dropped ones.
    pub n_kept: u64,
    pub n_text_bytes: u64,
    pub n_characters: u64,
    pub dropped: Dropped,
    /// Number of stored hashes of documents, for finding duplicates.
    pub n_seen: u64,
}

/// Reads the sources, starting from a stored state.
pub(super) struct Feed<'a> {
    sources: &'a [DocumentSource],
    options: &'a PrepareOptions,
    meter: Meter,
    state: FeedState,
    source_start: FeedState,
    /// Pieces of the current source returned so far, including those of an interrupted run, and how many of
    /// these still have to be replayed.
    n_pieces: u64,
    n_to_replay: u64,
    n_train_characters: Option<u64>,
    seen: HashSet<u128, FxBuildHasher>,
    new_hashes: Vec<u128>,
    /// Documents kept from the current source; and, since the last `take_kept`, the count for each source that changed.
    n_kept_here: u64,
    kept: Vec<(usize, u64)>,
    reader: Option<Reader>,
    open: Option<Open>,
    ready: VecDeque<Piece>,
}

/// The document that is being read.
struct Open {
    document: Document,
    filter: Filter,
    split: Split,
    /// The last piece, held back until it is known whether another one follows.
    held: Option<String>,
    n_given: u64,
}

/// Strips and normalises a document, piece by piece.
struct Filter {
    stripper: Option<Stripper>,
    normalise: Normalisation,
}

impl Filter {
    fn new(options: &PrepareOptions) -> Filter {
        Filter { stripper: options.strip_gutenberg.then(Stripper::default), normalise: options.normalise }
    }

    fn apply(&mut self, piece: String) -> String {
        let piece = match &mut self.stripper {
            Some(stripper) => match stripper.strip(&piece) {
                whole if whole.len() == piece.len() => piece,
                rest => rest.to_owned(),
            },
            None => piece,
        };
        match self.normalise {
            Normalisation::None => piece,
            Normalisation::Nfc if piece.is_ascii() || is_nfc_quick(piece.chars()) == IsNormalized::Yes => piece,
            Normalisation::Nfc => piece.nfc().collect(),
        }
    }
}

impl<'a> Feed<'a> {
    /// A feed that resumes after `n_pieces` pieces of a source, where `state` is the state at the start of that
    /// source and `seen` holds the hashes of the documents known there.
    pub(super) fn new(
        sources: &'a [DocumentSource],
        options: &'a PrepareOptions,
        state: FeedState,
        seen: Vec<u128>,
        n_train_characters: Option<u64>,
        n_pieces: u64,
        meter: Meter,
    ) -> Feed<'a> {
        meter.add(sources.iter().take(state.source).map(|source| source.file_bytes).sum());
        Feed {
            sources,
            options,
            meter,
            source_start: state.clone(),
            state,
            n_pieces: 0,
            n_to_replay: n_pieces,
            n_train_characters,
            seen: seen.into_iter().collect(),
            new_hashes: Vec::new(),
            n_kept_here: 0,
            kept: Vec::new(),
            reader: None,
            open: None,
            ready: VecDeque::new(),
        }
    }

    /// The state after the last returned piece, including what has been read ahead.
    pub(super) fn state(&self) -> &FeedState {
        &self.state
    }

    /// The position to resume from: the state at the start of the current source, and the pieces returned since.
    pub(super) fn place(&self) -> (FeedState, u64) {
        (self.source_start.clone(), self.n_pieces)
    }

    /// Hashes of the documents read since the last call, in order.
    pub(super) fn take_hashes(&mut self) -> Vec<u128> {
        std::mem::take(&mut self.new_hashes)
    }

    /// Sources from which documents were kept since the last call, with their counts so far.
    pub(super) fn take_kept(&mut self) -> Vec<(usize, u64)> {
        std::mem::take(&mut self.kept)
    }

    /// The next piece, or `None` after the last source.
    pub(super) fn next(&mut self) -> Result<Option<Piece>, DocumentError> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                self.n_pieces += 1;
                if self.n_to_replay == 0 {
                    return Ok(Some(piece));
                }
                self.n_to_replay -= 1;
            } else if let Some(mut open) = self.open.take() {
                if self.advance(&mut open)? {
                    self.open = Some(open);
                }
            } else if let Some(reader) = &mut self.reader {
                match reader.next()? {
                    Some(Found::Document(document)) => self.begin(document)?,
                    Some(Found::Bad(line, reason)) => self.drop_bad(line, &reason),
                    None => self.end_source(),
                }
            } else if self.state.source < self.sources.len() {
                let source = &self.sources[self.state.source];
                self.reader = Some(Reader::open(source, &self.options.names(), &self.meter)?);
            } else {
                return Ok(None);
            }
        }
    }

    fn end_source(&mut self) {
        self.reader = None;
        self.state.source += 1;
        self.source_start = self.state.clone();
        self.n_pieces = 0;
        self.n_kept_here = 0;
    }

    fn drop_bad(&mut self, line: u64, reason: &str) {
        let source = &self.sources[self.state.source];
        let what = if source.kind == SourceKind::Parquet { "row" } else { "line" };
        self.state.dropped.bad += 1;
        let first = || format!("{}, {what} {line}: {reason}", source.path.display());
        self.state.dropped.first_bad.get_or_insert_with(first);
    }

    /// Assigns a document to a split, unless it is a duplicate.
    fn begin(&mut self, document: Document) -> Result<(), DocumentError> {
        let number = self.state.n_documents;
        self.state.n_documents += 1;
        let document = if self.options.dedup {
            let (hash, document) = self.hash(document)?;
            self.new_hashes.push(hash);
            self.state.n_seen += 1;
            if !self.seen.insert(hash) {
                self.state.dropped.duplicates += 1;
                return Ok(());
            }
            document
        } else {
            document
        };
        let split = match self.options.split {
            SplitBy::Documents => {
                let drawn = Sequence::new(rng::stream(self.options.seed, Purpose::Split, number)).next_f64();
                if drawn < self.options.val_fraction { Split::Val } else { Split::Train }
            }
            // Decided for each piece.
            SplitBy::Characters => Split::Train,
        };
        let filter = Filter::new(self.options);
        self.open = Some(Open { document, filter, split, held: None, n_given: 0 });
        Ok(())
    }

    /// The hash of a document after stripping and normalising, and the document again from its start.
    fn hash(&self, mut document: Document) -> Result<(u128, Document), DocumentError> {
        let again = match &document {
            Document::Whole(text) => Document::Whole(text.clone()),
            Document::Stream(_) => {
                // The file is read twice; only the first pass counts as progress.
                let source = &self.sources[self.state.source];
                match Reader::open(source, &self.options.names(), &Meter::default())?.next()? {
                    Some(Found::Document(document)) => document,
                    _ => Document::Whole(String::new()),
                }
            }
        };
        let (mut filter, mut hasher) = (Filter::new(self.options), Sha256::new());
        while let Some((piece, _)) = document.next_piece()? {
            hasher.update(filter.apply(piece).as_bytes());
        }
        let digest = hasher.finish_bytes();
        let mut half = [0; 16];
        half.copy_from_slice(&digest[..16]);
        Ok((u128::from_le_bytes(half), again))
    }

    /// Produces the document's next piece; returns false at its end.
    fn advance(&mut self, open: &mut Open) -> Result<bool, DocumentError> {
        let next = open.document.next_piece()?;
        let is_last = next.as_ref().is_none_or(|(_, is_last)| *is_last);
        let text = next.map(|(piece, _)| open.filter.apply(piece)).filter(|text| !text.is_empty());
        if let Some(text) = text
            && let Some(before) = open.held.replace(text)
        {
            self.give(open, before, false);
        }
        if !is_last {
            return Ok(true);
        }
        match open.held.take() {
            Some(text) if open.n_given > 0 || !text.trim_start().is_empty() => self.give(open, text, true),
            _ => self.state.dropped.empty += 1,
        }
        Ok(false)
    }

    fn give(&mut self, open: &mut Open, text: String, ends: bool) {
        let begins = open.n_given == 0;
        if begins {
            self.state.n_kept += 1;
            self.n_kept_here += 1;
            self.kept.pop_if(|(source, _)| *source == self.state.source);
            self.kept.push((self.state.source, self.n_kept_here));
        }
        open.n_given += 1;
        let n_characters = text.chars().count() as u64;
        self.state.n_text_bytes += text.len() as u64;
        let before = self.state.n_characters;
        self.state.n_characters += n_characters;
        let source = self.state.source;
        let piece = |text, split, begins, ends| Piece { text, split, begins, ends, source };
        match self.n_train_characters {
            None => self.ready.push_back(piece(text, open.split, begins, ends)),
            Some(end) if self.state.n_characters <= end => {
                self.ready.push_back(piece(text, Split::Train, begins, ends));
            }
            Some(end) if before >= end => self.ready.push_back(piece(text, Split::Val, begins, ends)),
            Some(end) => {
                let n_first = (end - before) as usize;
                let cut = text.char_indices().nth(n_first).map_or(text.len(), |(at, _)| at);
                let (first, second) = text.split_at(cut);
                self.ready.push_back(piece(first.to_owned(), Split::Train, begins, false));
                self.ready.push_back(piece(second.to_owned(), Split::Val, false, ends));
            }
        }
    }
}
