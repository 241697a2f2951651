//! Reads documents from the sources and prepares them for tokenizing, piece by piece.

use std::collections::{HashSet, VecDeque};

use rustc_hash::FxBuildHasher;
use serde::{Deserialize, Serialize};

use super::super::documents::{
    After, Document, DocumentError, DocumentSource, Found, Meter, ReadOptions, Reader, SourceKind,
};
use super::super::findings::{Dropped, Findings};
use super::super::shard_format::Split;
use super::filter::Filter;
use crate::files::Sha256;
use crate::rng::{self, Purpose, Sequence};
use crate::tokenizer::{END_OF_TEXT, Tokenizer};

/// A piece of a document.
#[derive(Debug)]
pub(in crate::data) struct Piece {
    pub text: String,
    pub split: Split,
    /// Whether the document begins and ends with this piece.
    pub begins: bool,
    pub ends: bool,
    /// Whether the document is the first of its file, line or row; the others follow a separator.
    pub begins_text: bool,
    /// Whether the text before it, of another file, line or row, does not end in a line break.
    pub continues_line: bool,
    /// Index of the source it comes from.
    pub source: usize,
}

/// What has been read and kept so far; stored in the state file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::data) struct FeedState {
    /// Index of the current source.
    pub source: usize,
    /// Documents read, including duplicates.
    pub n_documents: u64,
    /// Documents kept, excluding dropped ones.
    pub n_kept: u64,
    pub n_text_bytes: u64,
    /// Characters of the documents and of the separators between them.
    pub n_characters: u64,
    pub dropped: Dropped,
    pub findings: Findings,
    /// Whether the last piece does not end in a line break.
    pub is_in_line: bool,
    /// Number of stored hashes of documents, for finding duplicates.
    pub n_seen: u64,
}

/// How documents are assigned to the two splits.
#[derive(Clone, Copy)]
pub(super) enum Division<'a> {
    /// All documents are for training.
    None,
    /// The seed and the document's number decide.
    Documents { seed: u64, val_fraction: f64 },
    /// The first characters are for training. No token of the tokenizer is cut.
    Characters { n_train: u64, tokenizer: &'a dyn Tokenizer },
}

/// Reads the sources, starting from a stored state.
pub(super) struct Feed<'a> {
    sources: &'a [DocumentSource],
    options: &'a ReadOptions,
    /// Whether `<|endoftext|>` in a text separates documents.
    separates: bool,
    division: Division<'a>,
    meter: Meter,
    state: FeedState,
    source_start: FeedState,
    /// Pieces of the current source returned so far, including those of an interrupted run, and how many of
    /// these still have to be replayed.
    n_pieces: u64,
    n_to_replay: u64,
    seen: HashSet<u128, FxBuildHasher>,
    new_hashes: Vec<u128>,
    /// Documents kept from the current source; and, since the last `take_kept`, the count for each source that changed.
    n_kept_here: u64,
    kept: Vec<(usize, u64)>,
    reader: Option<Reader>,
    open: Option<Open>,
    ready: VecDeque<Piece>,
}

/// The text that is being read: a file, a line or a row.
struct Open {
    text: Document,
    /// Hashes of its documents that were not begun yet, to find duplicates.
    hashes: VecDeque<u128>,
    current: Option<Current>,
    /// Documents of white space before the first with text. They belong to the text between two separators, but a
    /// text of nothing else is dropped.
    blank: Vec<String>,
    /// Documents of this text that were returned, and the split of the last one.
    n_returned: u64,
    split: Split,
    is_empty: bool,
}

/// The document that is being read.
struct Current {
    filter: Filter,
    hash: Option<u128>,
    split: Split,
    is_dropped: bool,
    /// The last piece, held back until it is known whether another one follows.
    held: Option<String>,
    n_given: u64,
}

impl<'a> Feed<'a> {
    /// A feed that resumes after `n_pieces` pieces of a source, where `state` is the state at the start of that
    /// source and `seen` holds the hashes of the documents known there.
    pub(super) fn new(
        sources: &'a [DocumentSource],
        (options, separates): (&'a ReadOptions, bool),
        division: Division<'a>,
        state: FeedState,
        seen: Vec<u128>,
        n_pieces: u64,
        meter: Meter,
    ) -> Feed<'a> {
        meter.add(sources.iter().take(state.source).map(|source| source.file_bytes).sum());
        Feed {
            sources,
            options,
            separates,
            division,
            meter,
            source_start: state.clone(),
            state,
            n_pieces: 0,
            n_to_replay: n_pieces,
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
                    Some(Found::Document(text)) => self.begin_text(text)?,
                    Some(Found::Bad(line, reason)) => self.drop_bad(line, &reason),
                    None => self.end_source(),
                }
            } else if let Some(source) = self.sources.get(self.state.source) {
                self.reader = Some(Reader::open(source, self.options, self.separates, &self.meter)?);
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

    fn begin_text(&mut self, text: Document) -> Result<(), DocumentError> {
        let (hashes, text) = if self.options.dedup { self.hash(text)? } else { (VecDeque::new(), text) };
        self.open = Some(Open {
            text,
            hashes,
            current: None,
            blank: Vec::new(),
            n_returned: 0,
            split: Split::Train,
            is_empty: true,
        });
        Ok(())
    }

    /// The hashes of a text's documents after stripping and normalising, and the text again from its start.
    fn hash(&self, mut text: Document) -> Result<(VecDeque<u128>, Document), DocumentError> {
        let again = match &text {
            Document::Whole(text) => Document::Whole(text.clone()),
            Document::Stream(_) => {
                // The file is read twice; only the first pass counts as progress.
                let source = &self.sources[self.state.source];
                match Reader::open(source, self.options, self.separates, &Meter::default())?.next()? {
                    Some(Found::Document(text)) => text,
                    _ => return Ok((VecDeque::new(), text)),
                }
            }
        };
        let mut hashes = VecDeque::new();
        let (mut filter, mut hasher) = (Filter::new(self.options), Sha256::new());
        while let Some((piece, after)) = text.next_piece()? {
            hasher.update(filter.apply(piece).as_bytes());
            if after != After::Piece {
                let digest = std::mem::replace(&mut hasher, Sha256::new()).finish_bytes();
                let mut half = [0; 16];
                half.copy_from_slice(&digest[..16]);
                hashes.push_back(u128::from_le_bytes(half));
                filter = Filter::new(self.options);
            }
        }
        Ok((hashes, again))
    }

    /// Reads the text's next piece; returns false at its end.
    fn advance(&mut self, open: &mut Open) -> Result<bool, DocumentError> {
        let Some((piece, after)) = open.text.next_piece()? else { return Ok(false) };
        self.note(&piece, after);
        let mut current = match open.current.take() {
            Some(current) => current,
            None => Current {
                filter: Filter::new(self.options),
                hash: open.hashes.pop_front(),
                split: Split::Train,
                is_dropped: false,
                held: None,
                n_given: 0,
            },
        };
        let text = current.filter.apply(piece);
        if !text.is_empty()
            && let Some(before) = current.held.replace(text)
        {
            self.give(open, &mut current, before, false);
        }
        if after == After::Piece {
            open.current = Some(current);
            return Ok(true);
        }
        match current.held.take() {
            Some(text) if current.n_given > 0 || !text.trim_start().is_empty() => {
                self.give(open, &mut current, text, true);
                if current.filter.lacks_mark() && !current.is_dropped {
                    self.state.findings.without_marks.add(1, || path_of(self.sources, self.state.source));
                }
            }
            blank => open.blank.push(blank.unwrap_or_default()),
        }
        if open.n_returned > 0 {
            self.return_blank(open);
        }
        let is_end = after == After::End;
        if is_end && open.is_empty {
            self.state.dropped.empty += 1;
        }
        Ok(!is_end)
    }

    /// Counts what a report mentions.
    fn note(&mut self, piece: &str, after: After) {
        let path = || path_of(self.sources, self.state.source);
        let findings = &mut self.state.findings;
        let bytes = piece.as_bytes();
        let n_separators = match after {
            After::Separator => 1,
            _ if self.separates => 0,
            _ => memchr::memmem::find_iter(bytes, END_OF_TEXT).count() as u64,
        };
        findings.separators.add(n_separators, path);
        findings.nul.add(memchr::memchr_iter(0, bytes).count() as u64, path);
        let is_crlf = |at: &usize| bytes.get(at + 1) == Some(&b'\n');
        findings.crlf.add(memchr::memchr_iter(b'\r', bytes).filter(is_crlf).count() as u64, path);
    }

    /// Assigns a document to a split, unless it is a duplicate.
    fn begin_document(&mut self, open: &mut Open, current: &mut Current) {
        open.is_empty = false;
        let number = self.state.n_documents;
        self.state.n_documents += 1;
        if let Some(hash) = current.hash {
            self.new_hashes.push(hash);
            self.state.n_seen += 1;
            if !self.seen.insert(hash) {
                self.state.dropped.duplicates += 1;
                current.is_dropped = true;
                return;
            }
        }
        current.split = match self.division {
            Division::Documents { seed, val_fraction } => {
                let drawn = Sequence::new(rng::stream(seed, Purpose::Split, number)).next_f64();
                if drawn < val_fraction { Split::Val } else { Split::Train }
            }
            // Decided for each piece.
            Division::None | Division::Characters { .. } => Split::Train,
        };
        open.split = current.split;
        self.return_blank(open);
        self.state.n_kept += 1;
        self.n_kept_here += 1;
        self.kept.pop_if(|(source, _)| *source == self.state.source);
        self.kept.push((self.state.source, self.n_kept_here));
    }

    /// Returns documents of white space between two separators, in the split of the document next to them.
    fn return_blank(&mut self, open: &mut Open) {
        for text in std::mem::take(&mut open.blank) {
            let (begins_text, split) = (open.n_returned == 0, open.split);
            open.n_returned += 1;
            self.divide(Piece { begins_text, ..self.piece(text, split, true, true) });
        }
    }

    fn give(&mut self, open: &mut Open, current: &mut Current, text: String, ends: bool) {
        let begins = current.n_given == 0;
        if begins {
            self.begin_document(open, current);
        }
        current.n_given += 1;
        if current.is_dropped {
            return;
        }
        let begins_text = begins && open.n_returned == 0;
        open.n_returned += u64::from(begins);
        self.divide(Piece { begins_text, ..self.piece(text, current.split, begins, ends) });
    }

    fn piece(&self, text: String, split: Split, begins: bool, ends: bool) -> Piece {
        Piece { text, split, begins, ends, begins_text: false, continues_line: false, source: self.state.source }
    }

    /// Queues a piece, cut in two where the training characters end.
    fn divide(&mut self, mut piece: Piece) {
        piece.continues_line = piece.begins && piece.begins_text && self.state.is_in_line;
        if !piece.text.is_empty() {
            self.state.is_in_line = !piece.text.ends_with('\n');
        }
        if piece.begins && !piece.begins_text {
            self.state.n_characters += END_OF_TEXT.len() as u64;
        }
        self.state.n_text_bytes += piece.text.len() as u64;
        let before = self.state.n_characters;
        self.state.n_characters += piece.text.chars().count() as u64;
        let Division::Characters { n_train, tokenizer } = self.division else {
            self.ready.push_back(piece);
            return;
        };
        if self.state.n_characters <= n_train {
            self.ready.push_back(piece);
        } else if before >= n_train {
            self.ready.push_back(Piece { split: Split::Val, ..piece });
        } else {
            let n_first = (n_train - before) as usize;
            let cut = piece.text.char_indices().nth(n_first).map_or(piece.text.len(), |(at, _)| at);
            let cut = tokenizer.cut_at(&piece.text, cut);
            if cut == 0 {
                self.ready.push_back(Piece { split: Split::Val, ..piece });
                return;
            }
            let second = piece.text.split_off(cut);
            let ends = std::mem::replace(&mut piece.ends, false);
            let val = self.piece(second, Split::Val, false, ends);
            self.ready.push_back(piece);
            self.ready.push_back(val);
        }
    }
}

fn path_of(sources: &[DocumentSource], i: usize) -> String {
    sources.get(i).map_or_else(String::new, |source| source.path.display().to_string())
}
