//! The vocabulary of a byte-level BPE: its tokens in merge order.
//!
//! Files list the merges. They are not stored here, because the ids are in the same order. Merging by ids equals
//! merging by a list if and only if, for each merged token, merging its bytes with lower ids alone ends in exactly
//! the two parts in the list: within the span that becomes a token, merging does not depend on the surroundings.

use rustc_hash::FxHashMap;

use super::base::Role;
use super::byte_level::spell;
use super::lists::BpeLists;

/// The tokens with ids `0..tokens.len()`, including special ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Vocabulary {
    /// The bytes of each token, by id.
    pub tokens: Vec<Vec<u8>>,
    /// Text and id of each special token, in id order.
    pub specials: Vec<(String, u32)>,
    /// Text and id of each other token that is found in a text before the merges, in id order.
    pub added: Vec<(String, u32)>,
}

impl Vocabulary {
    /// Creates a vocabulary; the special tokens may be in any order.
    pub fn new(tokens: Vec<Vec<u8>>, mut specials: Vec<(String, u32)>) -> Vocabulary {
        specials.sort_by_key(|&(_, id)| id);
        Vocabulary { tokens, specials, added: Vec::new() }
    }

    /// The same vocabulary with other tokens that are found before the merges, in any order.
    pub fn with_added(mut self, mut added: Vec<(String, u32)>) -> Vocabulary {
        added.sort_by_key(|&(_, id)| id);
        self.added = added;
        self
    }

    /// The role of each token, by id.
    pub fn roles(&self) -> Vec<Role> {
        let mut roles = vec![Role::Ordinary; self.tokens.len()];
        for (tokens, role) in [(&self.specials, Role::Special), (&self.added, Role::Added)] {
            tokens.iter().for_each(|&(_, id)| roles[id as usize] = role);
        }
        roles
    }

    /// The ids of the ordinary tokens by their bytes; lower ids are merged first.
    pub fn ranks(&self) -> FxHashMap<Vec<u8>, u32> {
        let tokens = (0..).zip(&self.tokens).zip(self.roles());
        tokens.filter(|&(_, role)| role == Role::Ordinary).map(|((id, token), _)| (token.clone(), id)).collect()
    }

    /// For each byte, whether no ordinary token consists of it alone; `None` if there is no such byte.
    pub fn missing_bytes(&self) -> Option<Box<[bool; 256]>> {
        let mut is_missing = Box::new([true; 256]);
        for (token, role) in self.tokens.iter().zip(self.roles()) {
            if let (&[byte], Role::Ordinary) = (token.as_slice(), role) {
                is_missing[usize::from(byte)] = false;
            }
        }
        is_missing.contains(&true).then_some(is_missing)
    }

    /// For each ordinary token of at least two bytes, in id order: its id, its bytes, and the length of the
    /// first of the two parts it is merged from, if there are two.
    pub fn merged_tokens(&self) -> impl Iterator<Item = (u32, &[u8], Option<usize>)> {
        let ranks = self.ranks();
        let tokens = (0..).zip(&self.tokens).zip(self.roles());
        tokens
            .filter(|&((_, token), role)| role == Role::Ordinary && token.len() > 1)
            .map(move |((id, token), _)| (id, token.as_slice(), last_cut(&ranks, token, id)))
    }

    /// The token of each id as text: an ordinary one in GPT-2's byte spelling, a special or added one unchanged.
    pub fn spelled(&self) -> impl Iterator<Item = String> {
        let tokens = self.tokens.iter().zip(self.roles());
        tokens.map(|(token, role)| match role {
            Role::Ordinary => spell(token),
            Role::Special | Role::Added => String::from_utf8_lossy(token).into_owned(),
        })
    }

    /// The two parts of each merge, separated by a space.
    ///
    /// # Panics
    /// If a token is not merged from two others; no tokenizer is built from such a vocabulary.
    pub fn merges(&self) -> impl Iterator<Item = String> {
        self.merged_tokens().map(|(id, token, cut)| {
            let cut = cut.unwrap_or_else(|| panic!("merges: token {id} is merged from two others"));
            format!("{} {}", spell(&token[..cut]), spell(&token[cut..]))
        })
    }

    /// The vocabulary in list form.
    pub fn to_lists(&self) -> BpeLists {
        let ids = |tokens: &[(String, u32)]| tokens.iter().map(|&(_, id)| id).collect();
        BpeLists {
            tokens: self.spelled().collect(),
            merges: self.merges().collect(),
            specials: ids(&self.specials),
            added: ids(&self.added),
        }
    }
}

/// Merges the bytes of a token using only lower ids. Returns the length of the first part if two parts are left.
pub(super) fn last_cut(ranks: &FxHashMap<Vec<u8>, u32>, token: &[u8], id: u32) -> Option<usize> {
    // The start of each part, then the end; each with the id of its union with the next part, if below `id`.
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
