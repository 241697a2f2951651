//! Measures how much of a generated text is copied verbatim from the training text.
//!
//! A token counts as copied if it is part of a run of at least [`RUN_LENGTH`] consecutive tokens that also occurs in
//! the training text. Shorter runs say little: two books of the same language share many common phrases. N. Carlini et
//! al., "Quantifying memorization across neural language models", 2023, use runs of 50 tokens. A training sample has
//! only about that many tokens, so the length used here is eight (about six words).
//!
//! Tokens of only white space do not count, neither in the generated text nor in the training text: eight line breaks in
//! a row are not a passage, and a passage is the same with other line breaks.
//!
//! All runs of eight tokens of the generated text are stored in a table. The training text is read once, piece by
//! piece, and only its last eight tokens are stored, so memory depends only on the length of the generated text.

use std::collections::VecDeque;
use std::ops::Range;

use rustc_hash::{FxHashMap, FxHashSet};

/// Minimum number of consecutive tokens that count as copied.
pub const RUN_LENGTH: usize = 8;

/// How much of a text is memorised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memorised {
    /// Number of generated tokens that are not white space.
    pub n_tokens: usize,
    /// Number of generated tokens that are copied.
    pub n_copied: usize,
    /// The longest passage that also occurs in the training text, as a range of the text's tokens including the prompt;
    /// empty if none reaches [`RUN_LENGTH`].
    pub longest: Range<usize>,
    /// Number of tokens in the longest passage that are not white space.
    pub n_longest: usize,
}

impl Memorised {
    /// Share of the generated tokens that are copied; 0 if none were generated.
    pub fn share(&self) -> f64 {
        if self.n_tokens == 0 { 0.0 } else { self.n_copied as f64 / self.n_tokens as f64 }
    }
}

/// Searches the passages of a text in a training text that is read piece by piece.
#[derive(Debug)]
pub struct CopySearch {
    /// The ids of white space.
    blank: FxHashSet<u32>,
    /// Where the text's tokens that are not white space are in the whole text.
    positions: Vec<usize>,
    /// How many of these belong to the prompt.
    n_prompt: usize,
    /// Start positions of each run of eight tokens in the text.
    runs: FxHashMap<[u32; RUN_LENGTH], Vec<usize>>,
    /// The last tokens of the training text read so far.
    passed: VecDeque<u32>,
    /// Matches that end at the last token read: start of the current run in the text, and length of the match up to the
    /// run's end.
    ending: Vec<(usize, usize)>,
    is_copied: Vec<bool>,
    longest: Range<usize>,
}

impl CopySearch {
    /// Prepares the search for a text of `tokens`, the first `n_prompt` of which are the prompt. `blank` are the ids of
    /// tokens that are only white space.
    pub fn new(tokens: &[u32], n_prompt: usize, blank: FxHashSet<u32>) -> CopySearch {
        let mut runs: FxHashMap<[u32; RUN_LENGTH], Vec<usize>> = FxHashMap::default();
        let positions: Vec<usize> = (0..tokens.len()).filter(|i| !blank.contains(&tokens[*i])).collect();
        let words: Vec<u32> = positions.iter().map(|i| tokens[*i]).collect();
        for (start, run) in words.windows(RUN_LENGTH).enumerate() {
            let run = run.try_into().expect("a window's length");
            runs.entry(run).or_default().push(start);
        }
        CopySearch {
            blank,
            n_prompt: positions.iter().take_while(|i| **i < n_prompt).count(),
            positions,
            runs,
            passed: VecDeque::with_capacity(RUN_LENGTH),
            ending: Vec::new(),
            is_copied: vec![false; words.len()],
            longest: 0..0,
        }
    }

    /// Reads the next tokens of the training text.
    pub fn pass(&mut self, tokens: &[u32]) {
        let mut run = [0; RUN_LENGTH];
        for &token in tokens {
            if self.blank.contains(&token) {
                continue;
            }
            if self.passed.len() == RUN_LENGTH {
                self.passed.pop_front();
            }
            self.passed.push_back(token);
            if self.passed.len() < RUN_LENGTH {
                continue;
            }
            run.iter_mut().zip(&self.passed).for_each(|(to, from)| *to = *from);
            match self.runs.get(&run) {
                None => self.ending.clear(),
                Some(starts) => {
                    let before = std::mem::take(&mut self.ending);
                    for &start in starts {
                        // A match that ended at the previous token, one position earlier, continues.
                        let continued = before.iter().find(|(from, _)| from + 1 == start).map(|(_, length)| length + 1);
                        let length = continued.unwrap_or(RUN_LENGTH);
                        let end = start + RUN_LENGTH;
                        self.is_copied[start..end].fill(true);
                        if length > self.longest.len() {
                            self.longest = end - length..end;
                        }
                        self.ending.push((start, length));
                    }
                }
            }
        }
    }

    /// The result for the training text read so far.
    pub fn found(&self) -> Memorised {
        let added = self.n_prompt..self.positions.len();
        let n_copied = self.is_copied[added.clone()].iter().filter(|copied| **copied).count();
        let longest = match self.positions[self.longest.clone()] {
            [first, .., last] => first..last + 1,
            _ => 0..0,
        };
        Memorised { n_tokens: added.len(), n_copied, longest, n_longest: self.longest.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference: tries every pair of positions.
    fn by_hand(text: &[u32], n_prompt: usize, training: &[u32]) -> Memorised {
        let (mut is_copied, mut longest) = (vec![false; text.len()], 0..0);
        for i in 0..text.len() {
            for j in 0..training.len() {
                let same = text[i..].iter().zip(&training[j..]).take_while(|(a, b)| a == b).count();
                if same >= RUN_LENGTH {
                    is_copied[i..i + same].fill(true);
                    if same > longest.len() {
                        longest = i..i + same;
                    }
                }
            }
        }
        let n_copied = is_copied[n_prompt..].iter().filter(|copied| **copied).count();
        Memorised { n_tokens: text.len() - n_prompt, n_copied, n_longest: longest.len(), longest }
    }

    fn search(text: &[u32], n_prompt: usize, training: &[u32], piece: usize) -> Memorised {
        let mut search = CopySearch::new(text, n_prompt, FxHashSet::default());
        training.chunks(piece).for_each(|piece| search.pass(piece));
        search.found()
    }

    #[test]
    fn a_copied_passage_is_found_across_pieces() {
        let training: Vec<u32> = (0..1000).collect();
        let text: Vec<u32> = [7, 7, 7].into_iter().chain(500..520).chain([9, 9]).chain(3..9).collect();
        for piece in [1, 7, 512, 1000] {
            let found = search(&text, 3, &training, piece);
            let expected = Memorised { n_tokens: 28, n_copied: 20, longest: 3..23, n_longest: 20 };
            assert_eq!(found, expected, "pieces of {piece}");
        }
        assert!((search(&text, 3, &training, 64).share() - 20.0 / 28.0).abs() < 1e-12);
    }

    #[test]
    fn a_passage_that_begins_in_the_prompt_counts_for_what_was_added() {
        let training: Vec<u32> = (0..100).collect();
        let text: Vec<u32> = (10..20).collect();
        let expected = Memorised { n_tokens: 4, n_copied: 4, longest: 0..10, n_longest: 10 };
        assert_eq!(search(&text, 6, &training, 9), expected);
    }

    #[test]
    fn white_space_neither_counts_nor_separates() {
        let blank = FxHashSet::from_iter([0]);
        let find = |text: &[u32], training: &[u32]| {
            let mut search = CopySearch::new(text, 2, blank.clone());
            training.chunks(3).for_each(|piece| search.pass(piece));
            search.found()
        };
        // Line breaks alone are no passage, however many there are.
        let training: Vec<u32> = [0; 50].into_iter().chain(1..30).collect();
        let none = Memorised { n_tokens: 0, n_copied: 0, longest: 0..0, n_longest: 0 };
        assert_eq!(find(&[40, 41, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &training), none);
        // The same passage with other line breaks.
        let text = [40, 41, 0, 3, 4, 0, 0, 5, 6, 7, 8, 9, 0, 10, 0];
        assert_eq!(find(&text, &training), Memorised { n_tokens: 8, n_copied: 8, longest: 3..14, n_longest: 8 });
    }

    #[test]
    fn seven_tokens_do_not_count_as_copied() {
        let training: Vec<u32> = (0..100).collect();
        let text = [90, 90, 10, 11, 12, 13, 14, 15, 16, 90];
        let expected = Memorised { n_tokens: 10, n_copied: 0, longest: 0..0, n_longest: 0 };
        assert_eq!(search(&text, 0, &training, 5), expected);
        assert_eq!(search(&[1, 2], 2, &training, 5).share(), 0.0);
        assert_eq!(search(&[], 0, &training, 5).n_tokens, 0);
    }

    #[test]
    fn it_agrees_with_trying_every_place() {
        // Few distinct tokens and much repetition, so that matches overlap, repeat and continue in several places at
        // once.
        let mut state = 9u32;
        let mut draw = |n: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % n
        };
        for round in 0..60 {
            let n = 2 + round % 3;
            let training: Vec<u32> = (0..300).map(|_| draw(n)).collect();
            let text: Vec<u32> = (0..40).map(|_| draw(n)).collect();
            let (found, expected) = (search(&text, 5, &training, 13), by_hand(&text, 5, &training));
            assert_eq!((found.n_copied, found.longest.len()), (expected.n_copied, expected.longest.len()), "{round}");
            assert_eq!(found.n_tokens, expected.n_tokens);
        }
    }
}
