//! Documents out of sources, made ready to be tokenised: one piece after another.

use std::collections::{HashSet, VecDeque};

use rustc_hash::FxBuildHasher;
use serde::{Deserialize, Serialize};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::super::documents::{Document, DocumentError, DocumentSource, Found, Meter, Reader, SourceKind, Stripper};
use super::super::manifest::Dropped;
use super::super::shard_format::Part;
use super::options::{Normalisation, PrepareOptions, SplitBy};
use crate::files::Sha256;
use crate::rng::{self, Purpose, Sequence};

/// A piece of a document.
#[derive(Debug)]
pub(super) struct Piece {
    pub text: String,
    pub part: Part,
    /// Whether the document begins with it, and ends with it.
    pub begins: bool,
    pub ends: bool,
    /// The place of its source among all.
    pub source: usize,
}

/// What has been seen and kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FeedState {
    /// The source under way.
    pub source: usize,
    /// Documents looked at, dropped ones too.
    pub n_documents: u64,
    /// Documents kept.
    pub n_kept: u64,
    pub n_text_bytes: u64,
    pub n_characters: u64,
    pub dropped: Dropped,
    /// Hashes of documents that are known.
    pub n_seen: u64,
}

/// Reads sources from the place of a state on.
pub(super) struct Feed<'a> {
    sources: &'a [DocumentSource],
    options: &'a PrepareOptions,
    meter: Meter,
    state: FeedState,
    source_start: FeedState,
    /// Pieces of the source under way that were given, those of an earlier call included; how many of these are still to be
    /// made again.
    n_pieces: u64,
    n_to_replay: u64,
    n_train_characters: Option<u64>,
    seen: HashSet<u128, FxBuildHasher>,
    new_hashes: Vec<u128>,
    /// Documents kept of the source under way; the same for those that documents were kept of since the last call.
    n_kept_here: u64,
    kept: Vec<(usize, u64)>,
    reader: Option<Reader>,
    open: Option<Open>,
    ready: VecDeque<Piece>,
}

/// A document under way.
struct Open {
    document: Document,
    filter: Filter,
    part: Part,
    /// The last piece, kept until it is known whether another one follows.
    held: Option<String>,
    n_given: u64,
}

/// Takes off and normalises, piece by piece.
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
    /// A feed that stands where `state`, the state at the start of a source, and then `n_pieces` pieces of that source
    /// lead; `seen` are the documents known at the former.
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

    /// What has been seen and kept, up to the piece given last and what was read behind it.
    pub(super) fn state(&self) -> &FeedState {
        &self.state
    }

    /// The state at the start of the source under way, and the pieces given since.
    pub(super) fn place(&self) -> (FeedState, u64) {
        (self.source_start.clone(), self.n_pieces)
    }

    /// Hashes of the documents looked at since the last call, in their order.
    pub(super) fn take_hashes(&mut self) -> Vec<u128> {
        std::mem::take(&mut self.new_hashes)
    }

    /// The sources that documents were kept of since the last call, and how many of each so far.
    pub(super) fn take_kept(&mut self) -> Vec<(usize, u64)> {
        std::mem::take(&mut self.kept)
    }

    /// The next piece; none at the end of all sources.
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

    /// Deals a document to its part, unless it came before.
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
        let part = match self.options.split {
            SplitBy::Documents => {
                let drawn = Sequence::new(rng::stream(self.options.seed, Purpose::Split, number)).next_f64();
                if drawn < self.options.val_fraction { Part::Val } else { Part::Train }
            }
            // Found when the piece is given.
            SplitBy::Characters => Part::Train,
        };
        let filter = Filter::new(self.options);
        self.open = Some(Open { document, filter, part, held: None, n_given: 0 });
        Ok(())
    }

    /// The hash of what a document will be once it is stripped and normalised, and the document from its start again.
    fn hash(&self, mut document: Document) -> Result<(u128, Document), DocumentError> {
        let again = match &document {
            Document::Whole(text) => Document::Whole(text.clone()),
            Document::Stream(_) => {
                // The file is read twice; the first time is the one that counts as progress.
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

    /// Makes the document's next piece ready; false at its end.
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
        let piece = |text, part, begins, ends| Piece { text, part, begins, ends, source };
        match self.n_train_characters {
            None => self.ready.push_back(piece(text, open.part, begins, ends)),
            Some(end) if self.state.n_characters <= end => self.ready.push_back(piece(text, Part::Train, begins, ends)),
            Some(end) if before >= end => self.ready.push_back(piece(text, Part::Val, begins, ends)),
            Some(end) => {
                let n_first = (end - before) as usize;
                let cut = text.char_indices().nth(n_first).map_or(text.len(), |(at, _)| at);
                let (first, second) = text.split_at(cut);
                self.ready.push_back(piece(first.to_owned(), Part::Train, begins, false));
                self.ready.push_back(piece(second.to_owned(), Part::Val, false, ends));
            }
        }
    }
}
