//! Trains a byte-level BPE on texts.
//!
//! The crate `tokenizers` counts and merges; texts are cut into GPT-2's pieces, as in encoding. The resulting
//! tokenizer merges in id order, like every byte-level BPE here (see `vocabulary`). A token that merging with lower
//! ids cannot produce is removed, since no text would ever contain it. The crate creates such a token if two pairs
//! have the same bytes, which is rare.

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

/// Minimum vocabulary size: all bytes and the end-of-text token.
pub const MIN_VOCAB: usize = 257;

/// Maximum vocabulary size: a larger one would need gigabytes for its table of merges.
pub const MAX_VOCAB: usize = 1 << 20;

/// Maximum length in bytes of a piece used for training; longer ones are not words, and their tokens would be useless.
const MAX_PIECE_BYTES: usize = 256;

/// Why training a tokenizer failed.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A vocabulary size outside the accepted range.
    #[error("a vocabulary of {n_vocab} tokens: expected {MIN_VOCAB} (all bytes, and {END_OF_TEXT}) to {MAX_VOCAB}")]
    Size {
        /// The size that the caller asked for.
        n_vocab: usize,
    },
    /// The texts contain no piece to train on.
    #[error("no text to train a tokenizer on; give files with text")]
    NoText,
    /// The crate that counts and merges reported an error.
    #[error("the tokenizer cannot be trained: {reason}")]
    Failed {
        /// The crate's error message.
        reason: String,
    },
}

/// Trains a byte-level BPE of at most `n_vocab` ids on texts: the 256 bytes, then merges of pairs that occur at
/// least `min_frequency` times, the most frequent first, and `<|endoftext|>` as the last id.
///
/// Memory holds the distinct words of the texts with their counts. The result depends only on the texts, not on the
/// number of threads.
///
/// # Errors
/// If the size is outside [`MIN_VOCAB`] to [`MAX_VOCAB`], or the texts are empty.
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
        let short = pieces(text).filter(|piece| piece.len() <= MAX_PIECE_BYTES);
        Ok(short.map(|piece| spell(piece.as_bytes())).collect())
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

/// Builds a tokenizer from the tokens in id order, bytes first, without those that merging cannot produce.
fn bpe_of(vocab: HashMap<String, u32>) -> Bpe {
    let mut trained: Vec<(u32, Vec<u8>)> =
        vocab.into_iter().filter_map(|(token, id)| Some((id, unspell(&token).ok()?))).collect();
    trained.sort();
    let mut tokens: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
    let mut ranks: FxHashMap<Vec<u8>, u32> = tokens.iter().cloned().zip(0..).collect();
    for (_, token) in trained.into_iter().filter(|(_, token)| token.len() > 1) {
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
