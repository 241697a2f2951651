//! The ids that mark where texts begin and end.

use serde::{Deserialize, Serialize};

use super::base::Tokenizer;

/// The ids with which a model's texts begin and end. They are the model's: a tokenizer may have other special tokens, or
/// none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TextBounds {
    /// The id before the first token of a text; an empty prompt consists of it.
    pub begin: Option<u32>,
    /// The ids of which any one ends a text.
    pub ends: Vec<u32>,
}

impl TextBounds {
    /// The bounds of a model that was trained with a tokenizer: its end-of-text token stands before and after a text.
    pub fn of<T: Tokenizer + ?Sized>(tokenizer: &T) -> TextBounds {
        let end = tokenizer.end_of_text();
        TextBounds { begin: end, ends: end.into_iter().collect() }
    }

    /// These bounds; one that is missing is taken from `other`.
    #[must_use]
    pub fn or(self, other: TextBounds) -> TextBounds {
        TextBounds {
            begin: self.begin.or(other.begin),
            ends: if self.ends.is_empty() { other.ends } else { self.ends },
        }
    }

    /// Removes ids that a model with `vocab_size` tokens does not have, and returns them.
    pub fn remove_beyond(&mut self, vocab_size: usize) -> Vec<u32> {
        let is_beyond = |id: &u32| *id as usize >= vocab_size;
        let mut removed: Vec<u32> = self.begin.take_if(|id| is_beyond(id)).into_iter().collect();
        removed.extend(self.ends.extract_if(.., |id| is_beyond(id)));
        removed.sort_unstable();
        removed.dedup();
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_bound_is_taken_from_the_other_and_an_impossible_one_removed() {
        let bounds = TextBounds { begin: Some(1), ends: vec![] }.or(TextBounds { begin: Some(9), ends: vec![9, 2] });
        assert_eq!(bounds, TextBounds { begin: Some(1), ends: vec![9, 2] });
        let mut bounds = TextBounds { begin: Some(50256), ends: vec![3, 50256, 65] };
        assert_eq!(bounds.remove_beyond(65), [65, 50256]);
        assert_eq!(bounds, TextBounds { begin: None, ends: vec![3] });
    }
}
