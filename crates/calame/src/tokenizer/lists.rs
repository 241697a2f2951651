//! A byte-level BPE as lists of texts.

/// A byte-level BPE tokenizer as lists, the form that GGUF files store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BpeLists {
    /// The token of each id: an ordinary one in GPT-2's byte spelling, a special one as its text.
    pub tokens: Vec<String>,
    /// The two parts of each merge, in byte spelling, separated by a space.
    pub merges: Vec<String>,
    /// Ids of the special tokens.
    pub specials: Vec<u32>,
    /// Ids of the other tokens that are found in a text before it is cut into pieces. They are part of ordinary text.
    pub added: Vec<u32>,
}
