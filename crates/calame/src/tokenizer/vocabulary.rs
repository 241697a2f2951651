//! The vocabulary of a byte-level BPE: its tokens, in the order in which they are merged.
//!
//! Files list the merges; here they are not stored, since the ids have their order. Merging by ids gives what merging by a
//! list gives if and only if, for each merged token, merging its bytes with lower ids alone ends in exactly the two parts
//! that the list has: inside the span that becomes a token, merging proceeds as if the span stood alone.

use rustc_hash::FxHashMap;

use super::byte_level::spell;
use super::lists::BpeLists;

/// The tokens of the ids `0..tokens.len()`, special ones included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Vocabulary {
    /// The bytes of each id.
    pub tokens: Vec<Vec<u8>>,
    /// Text and id of each special token, in the order of the ids.
    pub specials: Vec<(String, u32)>,
}

impl Vocabulary {
    /// A vocabulary whose special tokens may come in any order.
    pub fn new(tokens: Vec<Vec<u8>>, mut specials: Vec<(String, u32)>) -> Vocabulary {
        specials.sort_by_key(|&(_, id)| id);
        Vocabulary { tokens, specials }
    }

    /// For each id, whether it is a special token's.
    pub fn is_special(&self) -> Vec<bool> {
        let mut is_special = vec![false; self.tokens.len()];
        for &(_, id) in &self.specials {
            is_special[id as usize] = true;
        }
        is_special
    }

    /// The ids of the ordinary tokens: the order in which they are merged.
    pub fn ranks(&self) -> FxHashMap<Vec<u8>, u32> {
        let tokens = (0..).zip(&self.tokens).zip(self.is_special());
        tokens.filter(|&(_, special)| !special).map(|((id, token), _)| (token.clone(), id)).collect()
    }

    /// For each ordinary token of two bytes or more, in the order of the ids: its id, its bytes, and the length of the
    /// first of the two parts it is merged from, where there are two.
    pub fn merged_tokens(&self) -> impl Iterator<Item = (u32, &[u8], Option<usize>)> {
        let ranks = self.ranks();
        let tokens = (0..).zip(&self.tokens).zip(self.is_special());
        tokens
            .filter(|&((_, token), special)| !special && token.len() > 1)
            .map(move |((id, token), _)| (id, token.as_slice(), last_cut(&ranks, token, id)))
    }

    /// The token of each id as text: an ordinary one in GPT-2's spelling of bytes, a special one as it is.
    pub fn spelled(&self) -> impl Iterator<Item = String> {
        let tokens = self.tokens.iter().zip(self.is_special());
        tokens.map(|(token, special)| if special { String::from_utf8_lossy(token).into_owned() } else { spell(token) })
    }

    /// The two parts of each merge, with a space between them.
    ///
    /// # Panics
    /// If a token is not merged from two others; a tokenizer is never made of such a vocabulary.
    pub fn merges(&self) -> impl Iterator<Item = String> {
        self.merged_tokens().map(|(id, token, cut)| {
            let cut = cut.unwrap_or_else(|| panic!("merges: token {id} is merged from two others"));
            format!("{} {}", spell(&token[..cut]), spell(&token[cut..]))
        })
    }

    /// The vocabulary as lists.
    pub fn to_lists(&self) -> BpeLists {
        let specials = self.specials.iter().map(|&(_, id)| id).collect();
        BpeLists { tokens: self.spelled().collect(), merges: self.merges().collect(), specials }
    }
}

/// Merges the bytes of a token with the ids below its own; the length of the first part where two are left.
pub(super) fn last_cut(ranks: &FxHashMap<Vec<u8>, u32>, token: &[u8], id: u32) -> Option<usize> {
    // The starts of the parts, then the end; beside each the id of its union with the next part, if below `id`.
    let mut starts: Vec<usize> = (0..=token.len()).collect();
    let union = |starts: &[usize], i: usize| {
        let end = *starts.get(i + 2)?;
        ranks.get(&token[starts[i]..end]).copied().filter(|&rank| rank < id)
    };
    let mut unions: Vec<Option<u32>> = (0..starts.len()).map(|i| union(&starts, i)).collect();
    while let Some((_, i)) = unions.iter().zip(0..).filter_map(|(rank, i)| Some(((*rank)?, i))).min() {
        starts.remove(i + 1);
        unions.remove(i + 1);
        unions[i] = union(&starts, i);
        if i > 0 {
            unions[i - 1] = union(&starts, i - 1);
        }
    }
    (starts.len() == 3).then(|| starts[1])
}
