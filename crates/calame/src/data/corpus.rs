//! Reads the documents of a run into memory and joins them into one text.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::corpus_error::CorpusError;
use super::documents::{
    DocumentError, DocumentSource, Meter, ReadOptions, Sources, SpecialTokens, cut_pieces, find_sources,
};
use super::findings::ReadReport;
use super::inputs::Input;
use super::names::NamedText;
use super::prepare::Texts;
use super::split::{ValidationPart, text_sha256};
use crate::files::{Sha256, sha256_hex};
use crate::tokenizer::{END_OF_TEXT, Encoder, Special, Tokenizer, TokenizerError};

pub use super::corpus_error::MAX_BYTES;

/// The documents of a run, joined into one text.
///
/// Files, lines of JSON and rows are texts of their own. A text is one document, or several with `<|endoftext|>`
/// between them.
#[derive(Clone, Debug)]
pub struct Corpus {
    text: String,
    sources: Vec<CorpusSource>,
    /// The texts of files, lines and rows: byte ranges in `text`.
    texts: Vec<Range<usize>>,
    documents: Vec<Range<usize>>,
    report: ReadReport,
}

/// One file's contribution to a [`Corpus`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorpusSource {
    /// Path of the file; `builtin` for the built-in story.
    pub path: PathBuf,
    /// Size of the file in bytes, including a byte order mark.
    pub file_bytes: u64,
    /// Number of characters (Unicode scalar values) that the file contributed.
    pub n_characters: usize,
    /// Byte range of these characters in [`Corpus::text`].
    pub range: Range<usize>,
}

impl Corpus {
    /// Reads `inputs` with the default options; see [`Corpus::read`].
    ///
    /// # Errors
    /// As [`Corpus::read`].
    pub fn load<S: AsRef<str>>(inputs: &[S], cache_dir: &Path) -> Result<Self, DocumentError> {
        Self::read(inputs, cache_dir, &ReadOptions::default())
    }

    /// Reads the documents of `inputs`, which are those of [`find_sources`], and joins them in this order.
    ///
    /// A line break is inserted between the texts of two files, lines or rows if the first does not end in one;
    /// [`CorpusSource::range`] and [`Corpus::documents`] say where each is.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`find_sources`]; the first file that cannot be read or is not UTF-8; an error if there
    /// is no document, or more than [`MAX_BYTES`] of text.
    pub fn read<S: AsRef<str>>(inputs: &[S], cache_dir: &Path, options: &ReadOptions) -> Result<Self, DocumentError> {
        let sources = find_sources(inputs, cache_dir, options)?;
        check_sizes(&sources)?;
        let mut corpus = Corpus {
            text: String::new(),
            sources: Vec::new(),
            texts: Vec::new(),
            documents: Vec::new(),
            report: ReadReport::default(),
        };
        // Texts that are not compressed have the size of their files; others grow.
        let n_bytes: u64 =
            sources.files.iter().filter(|source| source.is_plain()).map(|source| source.file_bytes).sum();
        let _ = corpus.text.try_reserve_exact(usize::try_from(n_bytes).unwrap_or(0));
        let mut texts = Texts::new(&sources, options, Meter::default());
        let mut last_source = None;
        while let Some(piece) = texts.next_piece()? {
            let source = &sources.files[piece.source];
            if corpus.text.len().saturating_add(piece.text.len()) as u64 > MAX_BYTES {
                let n_bytes = corpus.text.len() as u64 + piece.text.len() as u64;
                return Err(CorpusError::TooLong { path: source.path.clone(), n_bytes }.into());
            }
            if piece.begins {
                if piece.continues_line {
                    corpus.text.push('\n');
                }
                if piece.begins_text {
                    corpus.begin_text(source, last_source != Some(piece.source));
                    last_source = Some(piece.source);
                } else {
                    corpus.text.push_str(END_OF_TEXT);
                }
                corpus.documents.push(corpus.text.len()..corpus.text.len());
            }
            corpus.text.push_str(&piece.text);
            corpus.extend_ranges();
        }
        corpus.report = texts.report();
        corpus.report.require_documents(sources.files.len())?;
        for source in &mut corpus.sources {
            source.n_characters = corpus.text[source.range.clone()].chars().count();
        }
        Ok(corpus)
    }

    /// The text of all files, joined.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The files, in the order of the text.
    pub fn sources(&self) -> &[CorpusSource] {
        &self.sources
    }

    /// The documents: byte ranges in [`Corpus::text`], in order. Separators and inserted line breaks are between them.
    /// A document between two separators may be empty.
    pub fn documents(&self) -> &[Range<usize>] {
        &self.documents
    }

    /// What was read and noticed.
    pub fn report(&self) -> &ReadReport {
        &self.report
    }

    /// Number of characters (Unicode scalar values) in the whole text.
    pub fn n_characters(&self) -> usize {
        self.text.chars().count()
    }

    /// SHA-256 of the text in hexadecimal; of several files, lines or rows, with a separator between them.
    pub fn sha256(&self) -> String {
        let mut hasher = Sha256::new();
        for (i, range) in self.texts.iter().enumerate() {
            if i > 0 {
                hasher.update(END_OF_TEXT.as_bytes());
            }
            hasher.update(self.text[range.clone()].as_bytes());
        }
        hasher.finish()
    }

    /// The hash by which a resumed run detects that its text, or the split of it, has changed.
    pub fn run_sha256(&self, rule: ValidationPart) -> String {
        match self.texts.len() {
            1 => self.sha256(),
            _ => sha256_hex(format!("{} {}", self.sha256(), text_sha256(&self.text, &self.starts(), rule)).as_bytes()),
        }
    }

    /// Where the texts of files, lines and rows start, in bytes of [`Corpus::text`].
    pub fn starts(&self) -> Vec<usize> {
        self.texts.iter().map(|text| text.start).collect()
    }

    /// The token ids of parts of the text, given as bytes in the order of the text. All verbs encode documents so: each
    /// by itself, with the end-of-text id between two of them or, if the tokenizer has none, with a line break where one
    /// is missing.
    ///
    /// # Errors
    /// If the tokenizer cannot encode a document.
    ///
    /// # Panics
    /// If a part does not begin and end at characters of the text.
    pub fn encode(&self, parts: &[Range<usize>], tokenizer: &dyn Tokenizer) -> Result<Vec<u32>, TokenizerError> {
        let separates = self.report.special_tokens == SpecialTokens::Ids;
        let special = if separates { Special::Allow } else { Special::AsText };
        let end_of_text = tokenizer.end_of_text();
        let units = if separates && end_of_text.is_some() { &self.documents } else { &self.texts };
        // A cut could be inside a special token with white space, which no other verb accepts in long texts.
        let is_cut = !tokenizer.special_texts().iter().any(|text| text.contains(char::is_whitespace));
        let mut encoder = Encoder::new(tokenizer);
        let mut ids = Vec::new();
        let mut before: Option<&str> = None;
        for part in parts {
            // What separates a document from the one before belongs to the part in which the document begins.
            let next = units.partition_point(|unit| unit.end <= part.start && unit.start < part.start);
            if next > 0 && units.get(next).is_some_and(|unit| part.start <= unit.start) {
                before = Some(&self.text[units[next - 1].clone()]);
            }
            // An empty document belongs to the part that begins with it.
            let is_last = |unit: &Range<usize>| unit.is_empty() && part.end == self.text.len();
            for unit in units[next..].iter().take_while(|unit| unit.start < part.end || is_last(unit)) {
                let text = &self.text[unit.start.max(part.start)..unit.end.min(part.end)];
                match (before, end_of_text) {
                    (Some(_), Some(id)) => ids.push(id),
                    (Some(before), None) if !before.ends_with('\n') => encoder.encode("\n", special, &mut ids)?,
                    _ => {}
                }
                if is_cut {
                    cut_pieces(text).try_for_each(|piece| encoder.encode(piece, special, &mut ids))?;
                } else {
                    encoder.encode(text, special, &mut ids)?;
                }
                before = Some(text);
            }
        }
        Ok(ids)
    }

    /// The token ids of the whole text; see [`Corpus::encode`].
    ///
    /// # Errors
    /// If the tokenizer cannot encode a document.
    pub fn encode_all(&self, tokenizer: &dyn Tokenizer) -> Result<Vec<u32>, TokenizerError> {
        self.encode(std::slice::from_ref(&(0..self.text.len())), tokenizer)
    }

    fn begin_text(&mut self, source: &DocumentSource, is_new: bool) {
        let start = self.text.len();
        self.texts.push(start..start);
        if is_new {
            let (path, file_bytes) = (source.path.clone(), source.file_bytes);
            self.sources.push(CorpusSource { path, file_bytes, n_characters: 0, range: start..start });
        }
    }

    /// Extends the last ranges to the end of the text.
    fn extend_ranges(&mut self) {
        let end = self.text.len();
        let source = self.sources.last_mut().map(|source| &mut source.range);
        for range in [source, self.texts.last_mut(), self.documents.last_mut()].into_iter().flatten() {
            range.end = end;
        }
    }
}

/// Refuses files that are too large together before anything is read.
fn check_sizes(sources: &Sources) -> Result<(), CorpusError> {
    let mut n_bytes = 0u64;
    for source in sources.files.iter().filter(|source| source.is_plain()) {
        n_bytes = n_bytes.saturating_add(source.file_bytes);
        if n_bytes > MAX_BYTES {
            return Err(CorpusError::TooLong { path: source.path.clone(), n_bytes });
        }
    }
    Ok(())
}

/// The named texts among `inputs` that [`Corpus::load`] will look up in the cache folder, in order, so that a
/// program can download the missing ones.
///
/// # Errors
///
/// Returns an error for an input that is neither a path, a name nor a pattern.
pub fn named_inputs<S: AsRef<str>>(inputs: &[S]) -> Result<Vec<&'static NamedText>, CorpusError> {
    let mut found = Vec::new();
    for input in inputs {
        if let Input::Named(text) = Input::of(input.as_ref())?
            && !found.contains(&text)
        {
            found.push(text);
        }
    }
    Ok(found)
}
