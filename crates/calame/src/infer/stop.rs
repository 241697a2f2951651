//! Stop strings: finds them in text that arrives in pieces, and holds back what may become one.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

/// A stop string that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stop string {number} has {n_bytes} bytes: expected 1 to {max}", max = StopStrings::MAX_BYTES)]
pub struct StopError {
    /// Position of the string in the list, from 1.
    pub number: usize,
    /// Its length in UTF-8.
    pub n_bytes: usize,
}

/// A set of stop strings, prepared for searching: the automaton of A. V. Aho and M. J. Corasick, "Efficient string
/// matching", 1975, over bytes.
///
/// The match that is complete first wins, so that a generation can end with the token that completes it. Of several
/// that are complete at the same character, the longest wins, which begins first. Cloning shares the automaton.
#[derive(Clone, Debug)]
pub struct StopStrings(Arc<Automaton>);

#[derive(Debug)]
struct Automaton {
    strings: Vec<String>,
    /// From a node along a byte to the node of the longer prefix.
    children: FxHashMap<(u32, u8), u32>,
    nodes: Vec<Node>,
}

/// A prefix of one or several strings. Node 0 is the empty one.
#[derive(Clone, Copy, Debug, Default)]
struct Node {
    /// Length of the prefix in bytes.
    depth: usize,
    /// The node of the longest proper suffix that is a prefix of a string too.
    suffix: u32,
    /// Index of the longest string that the prefix ends with.
    longest: Option<u32>,
}

impl StopStrings {
    /// Maximum length of a stop string in bytes: so much text is held back at most.
    pub const MAX_BYTES: usize = 4096;

    /// Prepares the strings; without any, no text is held back.
    ///
    /// # Errors
    /// Names the first string that is empty or longer than [`MAX_BYTES`](Self::MAX_BYTES).
    pub fn new<S: AsRef<str>>(strings: &[S]) -> Result<StopStrings, StopError> {
        let strings: Vec<String> = strings.iter().map(|string| string.as_ref().to_owned()).collect();
        if let Some(i) = strings.iter().position(|string| string.is_empty() || string.len() > Self::MAX_BYTES) {
            return Err(StopError { number: i + 1, n_bytes: strings[i].len() });
        }
        let mut automaton = Automaton { strings, children: FxHashMap::default(), nodes: vec![Node::default()] };
        automaton.build();
        Ok(StopStrings(Arc::new(automaton)))
    }

    /// A matcher at the start of a text.
    pub fn matcher(&self) -> StopMatcher {
        StopMatcher { automaton: Arc::clone(&self.0), node: 0, held: VecDeque::new(), met: None }
    }
}

impl Automaton {
    fn build(&mut self) {
        // In the order of creation a child is after its parent, but not after all shorter prefixes.
        let mut edges: Vec<(u32, u8, u32)> = Vec::new();
        for (i, string) in self.strings.iter().enumerate() {
            let mut at = 0;
            for (depth, byte) in (1..).zip(string.bytes()) {
                at = *self.children.entry((at, byte)).or_insert_with(|| {
                    let child = self.nodes.len() as u32;
                    self.nodes.push(Node { depth, ..Node::default() });
                    edges.push((at, byte, child));
                    child
                });
            }
            // Of equal strings the first is reported.
            self.nodes[at as usize].longest.get_or_insert(i as u32);
        }
        // A suffix is shorter than the prefix itself, so shorter prefixes must be complete before longer ones.
        edges.sort_by_key(|&(_, _, child)| self.nodes[child as usize].depth);
        for (parent, byte, child) in edges {
            let suffix = if parent == 0 { 0 } else { self.next(self.nodes[parent as usize].suffix, byte) };
            let longest = self.nodes[suffix as usize].longest;
            let node = &mut self.nodes[child as usize];
            node.suffix = suffix;
            node.longest = node.longest.or(longest);
        }
    }

    /// The longest suffix of the prefix `node` and a byte that is a prefix of a string.
    fn next(&self, mut node: u32, byte: u8) -> u32 {
        loop {
            if let Some(&child) = self.children.get(&(node, byte)) {
                return child;
            }
            if node == 0 {
                return 0;
            }
            node = self.nodes[node as usize].suffix;
        }
    }
}

/// Searches a text that arrives in pieces, such as those of a [`StreamDecoder`](crate::tokenizer::StreamDecoder), for
/// stop strings.
///
/// The joined results of [`push`](StopMatcher::push) and [`finish`](StopMatcher::finish) are the text up to the stop
/// string, or all of it, however it is split into pieces. No part of the stop string is in them. The time is linear in
/// the length of the text, for any number of strings.
#[derive(Clone, Debug)]
pub struct StopMatcher {
    automaton: Arc<Automaton>,
    /// The longest suffix of the text that may become a stop string.
    node: u32,
    /// The bytes of this suffix, which begin and end between characters.
    held: VecDeque<u8>,
    met: Option<u32>,
}

impl StopMatcher {
    /// Returns the text that can be shown now that `piece` has arrived: all text so far, without what was returned
    /// before and without the longest suffix that may become a stop string. After a stop string was met, nothing.
    pub fn push(&mut self, piece: &str) -> String {
        if self.met.is_some() {
            return String::new();
        }
        self.held.extend(piece.as_bytes());
        for (i, byte) in piece.bytes().enumerate() {
            self.node = self.automaton.next(self.node, byte);
            if let Some(string) = self.automaton.nodes[self.node as usize].longest {
                self.met = Some(string);
                let n_after = piece.len() - (i + 1);
                let n_shown = self.held.len() - n_after - self.automaton.strings[string as usize].len();
                let shown = self.take(n_shown);
                self.held.clear();
                return shown;
            }
        }
        self.take(self.held.len() - self.automaton.nodes[self.node as usize].depth)
    }

    /// The stop string that was met; also after the end of the text.
    pub fn met(&self) -> Option<&str> {
        self.met.map(|string| self.automaton.strings[string as usize].as_str())
    }

    /// Returns what is held back, at the end of the text; nothing if a stop string was met.
    pub fn finish(&mut self) -> String {
        self.node = 0;
        self.take(self.held.len())
    }

    /// Removes the first `n` bytes of the held text.
    fn take(&mut self, n: usize) -> String {
        // Stop strings begin with the first byte of a character, so the text before one ends with a whole character.
        String::from_utf8(self.held.drain(..n).collect()).expect("StopMatcher: split inside a character")
    }
}

#[cfg(test)]
mod tests;
