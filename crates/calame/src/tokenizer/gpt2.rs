//! Byte-level byte-pair encoding as GPT-2's.
//!
//! A text is cut into pieces (a word with the space before it, a number, a run of signs, a run of white space);
//! in each piece the bytes are merged, the pair whose union has the lowest id first, until no two neighbours
//! form a token. The ids of merged tokens are therefore in the order of the merges.
//!
//! The vocabulary (r50k, 50,257 ids) and the merging are those of the crate `tiktoken-rs`.
//! Source: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), section 2.2, and
//! `encoder.py` of openai/gpt-2.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use rustc_hash::FxHashMap;
use tiktoken_rs::CoreBPE;

use super::encoder::Pieces;
use super::json::{File, shorten};
use super::{END_OF_TEXT, Special, Tokenizer, TokenizerError, gpt2_json, hash_vocabulary};

/// Number of ids of GPT-2, `<|endoftext|>` included.
const N_GPT2: u32 = 50_257;

/// GPT-2's pattern of a piece, less its lookahead `\s+(?!\S)`: only single pieces, which [`pieces`](super::pieces) has cut,
/// are given to the expression.
///
/// With the lookahead a backtracking engine is needed, whose stack a long run of white space exhausts; without it
/// the search is linear in any text.
const PIECE: &str = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+";

/// A byte-level BPE tokenizer as lists, in which GGUF files hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BpeLists {
    /// The token of each id: an ordinary one in GPT-2's spelling of bytes, a special one as its text.
    pub tokens: Vec<String>,
    /// The two parts of each merge, spelled likewise, with a space between them.
    pub merges: Vec<String>,
    /// The ids of special tokens.
    pub specials: Vec<u32>,
}

/// A byte-level BPE tokenizer: GPT-2's, or one of the same make read from a file.
pub struct Bpe {
    kind: &'static str,
    /// The bytes of each id.
    tokens: Vec<Vec<u8>>,
    /// Text and id of each special token, in the order of the ids.
    specials: Vec<(String, u32)>,
    /// Finds any special token, the longest where several begin; its patterns are `specials` in order.
    special_finder: Option<AhoCorasick>,
    core: CoreBPE,
}

impl Bpe {
    /// GPT-2's tokenizer, from the vocabulary inside the program. It is built once; later calls share it.
    ///
    /// # Panics
    /// If the vocabulary inside the program is damaged.
    pub fn gpt2() -> Arc<Self> {
        static GPT2: OnceLock<Arc<Bpe>> = OnceLock::new();
        Arc::clone(GPT2.get_or_init(|| {
            let core = tiktoken_rs::r50k_base().expect("gpt2: the built-in vocabulary is sound");
            let tokens = (0..N_GPT2)
                .map(|id| core.decode_bytes(&[id]))
                .collect::<Result<Vec<_>, _>>()
                .expect("gpt2: the built-in vocabulary has every id");
            let specials = vec![(END_OF_TEXT.to_owned(), N_GPT2 - 1)];
            Arc::new(Self::new("gpt2", tokens, specials))
        }))
    }

    /// Reads a `tokenizer.json` of Hugging Face's format with a byte-level BPE that encodes as GPT-2's does:
    /// model BPE, pre-tokenizer ByteLevel without a prefix space, all 256 bytes in the vocabulary, ids in the
    /// order of the merges, special added tokens only. `path` only names the file in errors.
    /// Where it is GPT-2's own, the shared instance is given.
    ///
    /// # Errors
    /// [`TokenizerError::Json`] and [`TokenizerError::Unsupported`]; both name the file.
    pub fn from_json(text: &str, path: &Path) -> Result<Arc<Self>, TokenizerError> {
        gpt2_json::from_file(File::parse(text, path)?)
    }

    /// A tokenizer from lists, with the conditions of [`Bpe::from_json`]. `path` only names the file in errors.
    /// Where it is GPT-2's own, the shared instance is given.
    ///
    /// # Errors
    /// [`TokenizerError::Unsupported`], which names the file.
    pub fn from_lists(lists: BpeLists, path: &Path) -> Result<Arc<Self>, TokenizerError> {
        gpt2_json::from_lists(lists, path)
    }

    /// The lists from which [`Bpe::from_lists`] makes this tokenizer.
    pub fn to_lists(&self) -> BpeLists {
        gpt2_json::to_lists(self)
    }

    /// A tokenizer of the tokens of the ids `0..tokens.len()`, those of `specials` included.
    ///
    /// # Panics
    /// If two ordinary tokens are the same bytes, or the special tokens are gigabytes of text.
    pub(super) fn new(kind: &'static str, tokens: Vec<Vec<u8>>, mut specials: Vec<(String, u32)>) -> Self {
        specials.sort_by_key(|&(_, id)| id);
        let core = CoreBPE::new(ranks(&tokens, &specials), FxHashMap::default(), PIECE)
            .expect("bpe: the pattern of a piece is a valid expression");
        let special_finder = special_finder(&specials);
        Self { kind, tokens, specials, special_finder, core }
    }

    /// The bytes of each id.
    pub(super) fn tokens(&self) -> &[Vec<u8>] {
        &self.tokens
    }

    /// The texts of the special tokens, in the order of the ids.
    pub fn special_texts(&self) -> impl Iterator<Item = &str> {
        self.specials.iter().map(|(text, _)| text.as_str())
    }

    /// Text and id of each special token, in the order of the ids.
    pub(super) fn specials(&self) -> &[(String, u32)] {
        &self.specials
    }

    /// The ids of one piece.
    pub(super) fn merge(&self, piece: &str) -> Vec<u32> {
        self.core.encode_ordinary(piece)
    }

    /// Adds the ids of a text to `ids`; what it knows of pieces comes from `seen` and goes there.
    pub(super) fn encode_with(
        &self,
        text: &str,
        special: Special,
        seen: &mut Pieces,
        ids: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let mut start = 0;
        if let Some(finder) = &self.special_finder
            && special != Special::AsText
        {
            for found in finder.find_iter(text) {
                let (token, id) = &self.specials[found.pattern().as_usize()];
                if special == Special::Forbid {
                    return Err(TokenizerError::ForbiddenSpecial { token: shorten(token), at: found.start() });
                }
                seen.encode(self, &text[start..found.start()], ids);
                ids.push(*id);
                start = found.end();
            }
        }
        seen.encode(self, &text[start..], ids);
        Ok(())
    }
}

impl Tokenizer for Bpe {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn n_vocab(&self) -> usize {
        self.tokens.len()
    }

    fn end_of_text(&self) -> Option<u32> {
        self.specials.iter().find(|(text, _)| text == END_OF_TEXT).map(|&(_, id)| id)
    }

    fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Vec::new();
        self.encode_with(text, special, &mut Pieces::default(), &mut ids)?;
        Ok(ids)
    }

    fn decode_bytes(&self, ids: &[u32]) -> Result<Vec<u8>, TokenizerError> {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        for &id in ids {
            let token =
                self.tokens.get(id as usize).ok_or(TokenizerError::UnknownId { id, n_vocab: self.n_vocab() })?;
            bytes.extend_from_slice(token);
        }
        Ok(bytes)
    }

    fn as_bpe(&self) -> Option<&Bpe> {
        Some(self)
    }

    fn to_json(&self) -> String {
        gpt2_json::to_json(self)
    }

    fn hash(&self) -> String {
        let special = special_ids(self.tokens.len(), &self.specials);
        let tokens = self.tokens.iter().map(Vec::as_slice);
        hash_vocabulary(self.kind, tokens.zip(special))
    }
}

impl fmt::Debug for Bpe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bpe")
            .field("kind", &self.kind)
            .field("n_vocab", &self.tokens.len())
            .field("specials", &self.specials)
            .finish_non_exhaustive()
    }
}

/// For each id, whether it is a special token's.
pub(super) fn special_ids(n_vocab: usize, specials: &[(String, u32)]) -> Vec<bool> {
    let mut special = vec![false; n_vocab];
    for &(_, id) in specials {
        special[id as usize] = true;
    }
    special
}

/// The ids of the ordinary tokens: the order in which they are merged.
pub(super) fn ranks(tokens: &[Vec<u8>], specials: &[(String, u32)]) -> FxHashMap<Vec<u8>, u32> {
    let special = special_ids(tokens.len(), specials);
    (0..)
        .zip(tokens)
        .zip(special)
        .filter(|&(_, special)| !special)
        .map(|((id, token), _)| (token.clone(), id))
        .collect()
}

fn special_finder(specials: &[(String, u32)]) -> Option<AhoCorasick> {
    if specials.is_empty() {
        return None;
    }
    let finder = AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        // Left to itself it takes a DFA for few patterns: half a gigabyte for one special token of a megabyte.
        .kind(Some(AhoCorasickKind::ContiguousNFA))
        .build(specials.iter().map(|(text, _)| text));
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
        let bpe = Bpe::new("bpe", tokens, specials);
        let ids = bpe.encode("<a><b>ab<a>", Special::Allow).unwrap();
        assert_eq!(ids, [257, 258, 256]);
        assert_eq!(bpe.decode(&ids).unwrap(), "<a><b>ab<a>");
    }
}
