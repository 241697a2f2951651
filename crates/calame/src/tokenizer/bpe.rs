//! Byte-level byte-pair encoding (BPE) as in GPT-2.
//!
//! A text is cut into pieces (a word with the space before it, a number, a run of punctuation, a run of white
//! space). The bytes of each piece are merged, always the pair whose union has the lowest id, until no two
//! neighbours form a token. The ids of merged tokens are therefore in merge order.
//!
//! The vocabulary (r50k, 50,257 ids) and the merging come from the crate `tiktoken-rs`.
//! Source: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), section 2.2, and
//! `encoder.py` of openai/gpt-2.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use rustc_hash::FxHashMap;
use tiktoken_rs::CoreBPE;

use super::base::{END_OF_TEXT, Special, Tokenizer, hash_vocabulary};
use super::bpe_json;
use super::error::TokenizerError;
use super::json::{File, shorten};
use super::lists::BpeLists;
use super::piece_cache::PieceCache;
use super::vocabulary::Vocabulary;
use super::vocabulary_files::{self, VocabularyFiles};

/// Number of ids of GPT-2, including `<|endoftext|>`.
const N_GPT2: u32 = 50_257;

/// GPT-2's pattern of a piece without its lookahead `\s+(?!\S)`. The expression only ever sees single pieces that
/// [`pieces`](super::pieces) has cut.
///
/// The lookahead needs a backtracking engine, whose stack a long run of white space overflows; without it the
/// search takes linear time on any text.
const PIECE: &str = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+";

/// A byte-level BPE tokenizer: GPT-2's, or a similar one read from a file.
pub struct Bpe {
    kind: &'static str,
    vocabulary: Vocabulary,
    /// Finds special and added tokens, the longest one if several start at the same byte. Its patterns are the
    /// vocabulary's `specials` in order, then its `added`.
    finder: Option<AhoCorasick>,
    /// Finds added tokens alone.
    added_finder: Option<AhoCorasick>,
    /// The bytes that no token spells, if there are any.
    missing: Option<Box<[bool; 256]>>,
    core: CoreBPE,
}

impl Bpe {
    /// Number of tokens of GPT-2's tokenizer.
    pub const GPT2_TOKENS: usize = N_GPT2 as usize;

    /// GPT-2's tokenizer, from the built-in vocabulary. Built on the first call; later calls share it.
    ///
    /// # Panics
    /// If the built-in vocabulary is damaged.
    pub fn gpt2() -> Arc<Self> {
        static GPT2: OnceLock<Arc<Bpe>> = OnceLock::new();
        Arc::clone(GPT2.get_or_init(|| {
            let core = tiktoken_rs::r50k_base().expect("gpt2: the built-in vocabulary is sound");
            let tokens = (0..N_GPT2)
                .map(|id| core.decode_bytes(&[id]))
                .collect::<Result<Vec<_>, _>>()
                .expect("gpt2: the built-in vocabulary has every id");
            let specials = vec![(END_OF_TEXT.to_owned(), N_GPT2 - 1)];
            Arc::new(Self::new("gpt2", Vocabulary::new(tokens, specials)))
        }))
    }

    /// Reads a `tokenizer.json` in Hugging Face's format that contains a byte-level BPE which encodes like
    /// GPT-2's: model BPE, pre-tokenizer ByteLevel without a prefix space, ids in merge order. Bytes may be missing in
    /// the vocabulary: a text with one of them is an error. `path` only names the file in errors. Returns the shared
    /// instance if it is GPT-2's own.
    ///
    /// # Errors
    /// [`TokenizerError::Json`] and [`TokenizerError::Unsupported`]; both name the file.
    pub fn from_json(text: &str, path: &Path) -> Result<Arc<Self>, TokenizerError> {
        Self::from_file(File::parse(text, path)?)
    }

    /// Builds a tokenizer from lists, under the conditions of [`Bpe::from_json`]. `path` only names the file in
    /// errors. Returns the shared instance if it is GPT-2's own.
    ///
    /// # Errors
    /// [`TokenizerError::Unsupported`], which names the file.
    pub fn from_lists(lists: BpeLists, path: &Path) -> Result<Arc<Self>, TokenizerError> {
        Ok(Self::of(bpe_json::from_lists(lists, path)?))
    }

    /// Builds a tokenizer from GPT-2's original pair of files, `vocab.json` and `merges.txt`, under the conditions of
    /// [`Bpe::from_json`]. `folder` only names the files in errors.
    ///
    /// # Errors
    /// [`TokenizerError::Json`] and [`TokenizerError::Unsupported`]; both name the file.
    pub fn from_vocabulary_files(files: &VocabularyFiles, folder: &Path) -> Result<Arc<Self>, TokenizerError> {
        Ok(Self::of(vocabulary_files::read(files, folder)?))
    }

    /// The lists from which [`Bpe::from_lists`] rebuilds this tokenizer.
    pub fn to_lists(&self) -> BpeLists {
        self.vocabulary.to_lists()
    }

    /// Reads a file whose model type is BPE.
    pub(super) fn from_file(file: File) -> Result<Arc<Self>, TokenizerError> {
        Ok(Self::of(bpe_json::from_file(file)?))
    }

    /// Builds the tokenizer of a vocabulary, or returns the shared instance if it is GPT-2's.
    fn of(vocabulary: Vocabulary) -> Arc<Self> {
        let gpt2 = Self::gpt2();
        if gpt2.vocabulary == vocabulary { gpt2 } else { Arc::new(Self::new("bpe", vocabulary)) }
    }

    /// Builds the tokenizer of a vocabulary.
    ///
    /// # Panics
    /// If two ordinary tokens have the same bytes, or the special tokens are gigabytes of text.
    pub(super) fn new(kind: &'static str, vocabulary: Vocabulary) -> Self {
        let core = CoreBPE::new(vocabulary.ranks(), FxHashMap::default(), PIECE)
            .expect("bpe: the pattern of a piece is a valid expression");
        let all = finder(vocabulary.specials.iter().chain(&vocabulary.added));
        let (added_finder, missing) = (finder(vocabulary.added.iter()), vocabulary.missing_bytes());
        Self { kind, vocabulary, finder: all, added_finder, missing, core }
    }

    /// The added tokens in a text and, unless they count as text, the special ones.
    fn found<'a>(&'a self, text: &'a str, special: Special) -> impl Iterator<Item = Found<'a>> {
        let n_specials = self.vocabulary.specials.len();
        let (finder, first) = match special {
            Special::AsText => (&self.added_finder, n_specials),
            Special::Forbid | Special::Allow => (&self.finder, 0),
        };
        finder.iter().flat_map(move |finder| finder.find_iter(text)).map(move |found| {
            let i = first + found.pattern().as_usize();
            let is_special = i < n_specials;
            let tokens = if is_special { &self.vocabulary.specials } else { &self.vocabulary.added };
            let (token, id) = &tokens[if is_special { i } else { i - n_specials }];
            Found { token, id: *id, is_special, range: found.range() }
        })
    }

    /// Checks that the vocabulary has every byte of a text that starts at byte `start` of the whole.
    fn check_bytes(&self, text: &str, start: usize) -> Result<(), TokenizerError> {
        let Some(missing) = &self.missing else { return Ok(()) };
        match text.bytes().position(|byte| missing[usize::from(byte)]) {
            Some(at) => Err(TokenizerError::UnknownByte { byte: text.as_bytes()[at], at: start + at }),
            None => Ok(()),
        }
    }

    /// The ids of a single piece.
    fn merge(&self, piece: &str) -> Vec<u32> {
        self.core.encode_ordinary(piece)
    }
}

impl Tokenizer for Bpe {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn n_vocab(&self) -> usize {
        self.vocabulary.tokens.len()
    }

    fn end_of_text(&self) -> Option<u32> {
        self.vocabulary.specials.iter().find(|(text, _)| text == END_OF_TEXT).map(|&(_, id)| id)
    }

    fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Vec::new();
        self.encode_with(text, special, &mut PieceCache::default(), &mut ids)?;
        Ok(ids)
    }

    fn decode_bytes(&self, ids: &[u32]) -> Result<Vec<u8>, TokenizerError> {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        for &id in ids {
            let token = self
                .vocabulary
                .tokens
                .get(id as usize)
                .ok_or(TokenizerError::UnknownId { id, n_vocab: self.n_vocab() })?;
            bytes.extend_from_slice(token);
        }
        Ok(bytes)
    }

    fn encode_with(
        &self,
        text: &str,
        special: Special,
        cache: &mut PieceCache,
        ids: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let mut start = 0;
        for Found { token, id, is_special, range } in self.found(text, special) {
            if is_special && special == Special::Forbid {
                return Err(TokenizerError::ForbiddenSpecial { token: shorten(token), at: range.start });
            }
            self.check_bytes(&text[start..range.start], start)?;
            cache.encode(&text[start..range.start], |piece| self.merge(piece), ids);
            ids.push(id);
            start = range.end;
        }
        self.check_bytes(&text[start..], start)?;
        cache.encode(&text[start..], |piece| self.merge(piece), ids);
        Ok(())
    }

    fn special_texts(&self) -> Vec<&str> {
        self.vocabulary.specials.iter().map(|(text, _)| text.as_str()).collect()
    }

    fn bpe_lists(&self) -> Option<BpeLists> {
        Some(self.to_lists())
    }

    fn to_json(&self) -> String {
        bpe_json::to_json(&self.vocabulary)
    }

    fn hash(&self) -> String {
        let tokens = self.vocabulary.tokens.iter().map(Vec::as_slice);
        hash_vocabulary(self.kind, tokens.zip(self.vocabulary.roles()))
    }
}

impl fmt::Debug for Bpe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bpe")
            .field("kind", &self.kind)
            .field("n_vocab", &self.vocabulary.tokens.len())
            .field("specials", &self.vocabulary.specials)
            .finish_non_exhaustive()
    }
}

/// A special or added token in a text.
struct Found<'a> {
    token: &'a str,
    id: u32,
    is_special: bool,
    range: Range<usize>,
}

fn finder<'a>(tokens: impl Iterator<Item = &'a (String, u32)>) -> Option<AhoCorasick> {
    let mut texts = tokens.map(|(text, _)| text).peekable();
    texts.peek()?;
    let finder = AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        // The default for few patterns is a DFA, which takes 0.5 GB for one special token of 1 MB.
        .kind(Some(AhoCorasickKind::ContiguousNFA))
        .build(texts);
    Some(finder.expect("bpe: the special tokens are few"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_special_token_is_found() {
        let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        tokens.extend([b"<a>".to_vec(), b"<a><b>".to_vec(), b"ab".to_vec()]);
        let specials = vec![("<a>".to_owned(), 256), ("<a><b>".to_owned(), 257)];
        let bpe = Bpe::new("bpe", Vocabulary::new(tokens, specials));
        let ids = bpe.encode("<a><b>ab<a>", Special::Allow).unwrap();
        assert_eq!(ids, [257, 258, 256]);
        assert_eq!(bpe.decode(&ids).unwrap(), "<a><b>ab<a>");
    }
}
