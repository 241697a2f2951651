//! A byte-level BPE learnt from texts.
//!
//! The crate `tokenizers` counts and merges; the pieces of a text are GPT-2's, as they are when the tokenizer encodes.
//! What comes out merges by the order of its ids, as every byte-level BPE here does (see `vocabulary`): a token that
//! merging with the ids below its own does not give is left out, since no text would ever get it. The crate makes such a
//! token where two pairs give the same bytes, which is rare.

use std::collections::HashMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use tokenizers::Trainer as _;
use tokenizers::models::bpe::{BPE, BpeTrainer};

use super::base::END_OF_TEXT;
use super::bpe::Bpe;
use super::byte_level::{spell, unspell};
use super::pieces::pieces;
use super::vocabulary::{Vocabulary, last_cut};

/// The fewest ids: all bytes and the end-of-text token.
pub const MIN_VOCAB: usize = 257;

/// The most ids: more would take a table of merges of gigabytes.
pub const MAX_VOCAB: usize = 1 << 20;

/// Bytes of the longest piece that is learnt from; longer ones are no words, and their tokens would be of no use.
const MAX_PIECE_BYTES: usize = 256;

/// Why no tokenizer was learnt.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A size that no vocabulary can have.
    #[error(
        "the vocabulary is to have {n_vocab} tokens: expected {MIN_VOCAB} (all bytes, and {END_OF_TEXT}) to {MAX_VOCAB}"
    )]
    Size {
        /// The size asked for.
        n_vocab: usize,
    },
    /// No text.
    #[error("no text to learn a tokenizer from; give files with text")]
    NoText,
    /// What the crate that counts and merges says.
    #[error("no tokenizer could be learnt: {reason}")]
    Failed {
        /// Its words.
        reason: String,
    },
}

/// Learns a byte-level BPE of at most `n_vocab` ids from texts: the 256 bytes, the merges of pairs that come at least
/// `min_frequency` times, the most frequent first, and `<|endoftext|>` as the last id.
///
/// In memory are the different words of the texts with their counts. The result depends on the texts alone, not on the
/// number of threads.
///
/// # Errors
/// A size that cannot be, or no text.
pub fn train(
    texts: impl Iterator<Item = String> + Send,
    n_vocab: usize,
    min_frequency: u64,
) -> Result<Arc<Bpe>, TrainError> {
    if !(MIN_VOCAB..=MAX_VOCAB).contains(&n_vocab) {
        return Err(TrainError::Size { n_vocab });
    }
    let failed = |error: tokenizers::Error| TrainError::Failed { reason: error.to_string() };
    let alphabet = (0..=u8::MAX).flat_map(|byte| spell(&[byte]).chars().collect::<Vec<_>>()).collect();
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(n_vocab - 1)
        .min_frequency(min_frequency)
        .initial_alphabet(alphabet)
        .build();
    let words = |text: &str| {
        let learnt = pieces(text).filter(|piece| piece.len() <= MAX_PIECE_BYTES);
        Ok(learnt.map(|piece| spell(piece.as_bytes())).collect())
    };
    let mut is_empty = true;
    let texts = texts.inspect(|text| is_empty &= text.is_empty());
    trainer.feed(texts, words).map_err(failed)?;
    if is_empty {
        return Err(TrainError::NoText);
    }
    let mut model = BPE::default();
    trainer.train(&mut model).map_err(failed)?;
    let vocab: HashMap<String, u32> = tokenizers::Model::get_vocab(&model).into_iter().collect();
    Ok(Arc::new(bpe_of(vocab)))
}

/// A tokenizer of the tokens in the order of their ids, bytes first, without those that merging does not give.
fn bpe_of(vocab: HashMap<String, u32>) -> Bpe {
    let mut learnt: Vec<(u32, Vec<u8>)> =
        vocab.into_iter().filter_map(|(token, id)| Some((id, unspell(&token).ok()?))).collect();
    learnt.sort();
    let mut tokens: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
    let mut ranks: FxHashMap<Vec<u8>, u32> = tokens.iter().cloned().zip(0..).collect();
    for (_, token) in learnt.into_iter().filter(|(_, token)| token.len() > 1) {
        let id = tokens.len() as u32;
        if last_cut(&ranks, &token, id).is_some() {
            ranks.insert(token.clone(), id);
            tokens.push(token);
        }
    }
    let end_of_text = (END_OF_TEXT.to_owned(), tokens.len() as u32);
    tokens.push(END_OF_TEXT.as_bytes().to_vec());
    Bpe::new("bpe", Vocabulary::new(tokens, vec![end_of_text]))
}
