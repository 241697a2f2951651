//! How much of a text stands word for word in what was trained on.
//!
//! A token of the text counts as copied if it lies in a run of at least [`RUN_LENGTH`] consecutive tokens that stands in the
//! training text too. Shorter runs say little: common turns of phrase are in any two books of one language. N. Carlini et
//! al., "Quantifying memorization across neural language models", 2023, ask for runs of 50; a sample of a training is no
//! longer than that in all, so eight, some six words, is the measure here.
//!
//! The text's runs of eight stand in a table; the training text passes once, piece by piece, and nothing of it is kept but
//! its last eight tokens: memory is a matter of the text's length alone.

use std::collections::VecDeque;
use std::ops::Range;

use rustc_hash::FxHashMap;

/// Consecutive tokens that make a copy.
pub const RUN_LENGTH: usize = 8;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memorised {
    /// Tokens that the model added.
    pub n_tokens: usize,
    /// Those of them that are copied.
    pub n_copied: usize,
    /// The longest passage that stands in the training text, as a range of the text's tokens, prompt included; empty where
    /// none has [`RUN_LENGTH`].
    pub longest: Range<usize>,
}

impl Memorised {
    /// The share of copied tokens among those that the model added; 0 where it added none.
    pub fn share(&self) -> f64 {
        if self.n_tokens == 0 { 0.0 } else { self.n_copied as f64 / self.n_tokens as f64 }
    }
}

/// Looks for the passages of a text in another one that passes by.
#[derive(Debug)]
pub struct CopySearch {
    text: Vec<u32>,
    n_prompt: usize,
    /// Where each run of eight of the text begins.
    runs: FxHashMap<[u32; RUN_LENGTH], Vec<usize>>,
    /// The last tokens that passed.
    passed: VecDeque<u32>,
    /// The matches that end at the last token: the run's beginning in the text, and the length of the match up to its end.
    ending: Vec<(usize, usize)>,
    is_copied: Vec<bool>,
    longest: Range<usize>,
}

impl CopySearch {
    /// For a text of `tokens`, the first `n_prompt` of which the model was given.
    pub fn new(tokens: &[u32], n_prompt: usize) -> CopySearch {
        let mut runs: FxHashMap<[u32; RUN_LENGTH], Vec<usize>> = FxHashMap::default();
        for (start, run) in tokens.windows(RUN_LENGTH).enumerate() {
            let run = run.try_into().expect("a window's length");
            runs.entry(run).or_default().push(start);
        }
        CopySearch {
            text: tokens.to_vec(),
            n_prompt: n_prompt.min(tokens.len()),
            runs,
            passed: VecDeque::with_capacity(RUN_LENGTH),
            ending: Vec::new(),
            is_copied: vec![false; tokens.len()],
            longest: 0..0,
        }
    }

    /// The next tokens of the training text.
    pub fn pass(&mut self, tokens: &[u32]) {
        let mut run = [0; RUN_LENGTH];
        for &token in tokens {
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
                        // A match that ended one token earlier, one place before, goes on.
                        let went_on = before.iter().find(|(from, _)| from + 1 == start).map(|(_, length)| length + 1);
                        let length = went_on.unwrap_or(RUN_LENGTH);
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

    /// What has been found so far.
    pub fn found(&self) -> Memorised {
        let added = self.n_prompt..self.text.len();
        let n_copied = self.is_copied[added.clone()].iter().filter(|copied| **copied).count();
        Memorised { n_tokens: added.len(), n_copied, longest: self.longest.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By trying every pair of places.
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
        Memorised { n_tokens: text.len() - n_prompt, n_copied, longest }
    }

    fn search(text: &[u32], n_prompt: usize, training: &[u32], piece: usize) -> Memorised {
        let mut search = CopySearch::new(text, n_prompt);
        training.chunks(piece).for_each(|piece| search.pass(piece));
        search.found()
    }

    #[test]
    fn a_copied_passage_is_found_across_pieces() {
        let training: Vec<u32> = (0..1000).collect();
        let text: Vec<u32> = [7, 7, 7].into_iter().chain(500..520).chain([9, 9]).chain(3..9).collect();
        for piece in [1, 7, 512, 1000] {
            let found = search(&text, 3, &training, piece);
            assert_eq!(found, Memorised { n_tokens: 28, n_copied: 20, longest: 3..23 }, "pieces of {piece}");
        }
        assert!((search(&text, 3, &training, 64).share() - 20.0 / 28.0).abs() < 1e-12);
    }

    #[test]
    fn a_passage_that_begins_in_the_prompt_counts_for_what_was_added() {
        let training: Vec<u32> = (0..100).collect();
        let text: Vec<u32> = (10..20).collect();
        assert_eq!(search(&text, 6, &training, 9), Memorised { n_tokens: 4, n_copied: 4, longest: 0..10 });
    }

    #[test]
    fn seven_tokens_are_no_copy() {
        let training: Vec<u32> = (0..100).collect();
        let text = [90, 90, 10, 11, 12, 13, 14, 15, 16, 90];
        assert_eq!(search(&text, 0, &training, 5), Memorised { n_tokens: 10, n_copied: 0, longest: 0..0 });
        assert_eq!(search(&[1, 2], 2, &training, 5).share(), 0.0);
        assert_eq!(search(&[], 0, &training, 5).n_tokens, 0);
    }

    #[test]
    fn it_agrees_with_trying_every_place() {
        // Few different tokens and much repetition: matches overlap, repeat and go on in several places at once.
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
