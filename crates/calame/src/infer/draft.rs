//! Guesses what follows: the continuation of the latest tokens at their last occurrence before.
//!
//! Texts repeat themselves (names, code, quotations), and a wrong guess costs only its row. A. Saxena, "Prompt Lookup
//! Decoding", 2023.

/// Most tokens that must have occurred before.
const MAX_NGRAM: usize = 4;
/// Fewest: what follows a single token is seldom right.
const MIN_NGRAM: usize = 2;
/// Tokens that are searched, from the end on: the time of a search is bounded.
const MAX_SEARCHED: usize = 4096;

/// Fills `drafts` with up to `n` tokens that may follow; none if the latest tokens have not occurred before.
pub(super) fn draft(tokens: &[u32], n: usize, drafts: &mut Vec<u32>) {
    drafts.clear();
    if n == 0 {
        return;
    }
    let tokens = &tokens[tokens.len().saturating_sub(MAX_SEARCHED)..];
    for len in (MIN_NGRAM..=MAX_NGRAM).rev() {
        if tokens.len() <= len {
            continue;
        }
        let (before, latest) = (&tokens[..tokens.len() - 1], &tokens[tokens.len() - len..]);
        if let Some(at) = before.windows(len).rposition(|window| window == latest) {
            let following = &tokens[at + len..];
            drafts.extend_from_slice(&following[..n.min(following.len())]);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_occurrence_is_continued() {
        let drafted = |tokens: &[u32], n| {
            let mut drafts = vec![9];
            draft(tokens, n, &mut drafts);
            drafts
        };
        assert_eq!(drafted(&[1, 2, 3, 1, 2, 4, 1, 2], 3), [4, 1, 2]);
        assert_eq!(drafted(&[1, 2, 3, 1, 2, 4, 1, 2], 1), [4]);
        // The longest match wins over a later, shorter one.
        assert_eq!(drafted(&[5, 1, 2, 3, 7, 1, 2, 4, 5, 1, 2], 2), [3, 7]);
        assert!(drafted(&[1, 2, 3, 4], 2).is_empty());
        assert_eq!(drafted(&[1, 1, 1], 4), [1]);
        assert!(drafted(&[], 2).is_empty());
        assert!(drafted(&[1, 2, 1, 2], 0).is_empty());
    }
}
