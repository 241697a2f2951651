//! A byte-level BPE as lists of texts.

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
