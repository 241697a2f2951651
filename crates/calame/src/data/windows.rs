//! The tokens of a split as overlapping samples of equal length.
//!
//! Sample i starts at token i·stride. Its input is the T tokens from there, its target the T tokens from the next
//! position, so that every position predicts the token that follows it. A sample starts only while `start <
//! n_tokens − window`: the target of the last token must exist, so exactly `window` tokens give no sample. Source:
//! Raschka, *Build a Large Language Model (From Scratch)*, listing 2.5 (`GPTDatasetV1`).

use std::sync::Arc;

use super::shard_set::ShardSet;
use super::shards::ShardError;

/// Why tokens cannot be cut into windows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowsError {
    /// Fewer tokens than one window and its last target need.
    #[error(
        "{part} has {n_tokens} tokens, but one window of {window} needs at least {}, since each \
         token's target is the next token; {}",
        needed(*window),
        remedy(*n_tokens)
    )]
    TooShort {
        /// The affected part of the text, as the message names it.
        part: &'static str,
        /// Number of tokens in this part.
        n_tokens: usize,
        /// Number of tokens per window.
        window: usize,
    },
    /// A window or stride of zero.
    #[error("{key} = 0: expected at least 1; the report uses a window of 256 tokens and a stride of 128")]
    Zero {
        /// The configuration key with the value 0.
        key: &'static str,
    },
}

fn needed(window: usize) -> u128 {
    window as u128 + 1
}

fn remedy(n_tokens: usize) -> String {
    if n_tokens < 2 {
        return "give more text, or move the split with data.train_fraction".to_owned();
    }
    format!("set --window to at most {}, give more text, or move the split with data.train_fraction", n_tokens - 1)
}

impl WindowsError {
    /// The same error, with `name` (such as "the validation part") in place of "the text".
    #[must_use]
    pub fn in_part(self, name: &'static str) -> Self {
        match self {
            Self::TooShort { n_tokens, window, .. } => Self::TooShort { part: name, n_tokens, window },
            zero @ Self::Zero { .. } => zero,
        }
    }
}

/// Splits `text` after its first ⌊`train_fraction` · characters⌋ characters. Returns (training split, validation
/// split).
///
/// Rounds down like Python's `int(train_fraction * len(text))`.
///
/// # Panics
///
/// If `train_fraction` is outside 0..=1, which [`DataConfig::validate`](super::DataConfig::validate) rejects.
pub fn split_by_characters(text: &str, train_fraction: f64) -> (&str, &str) {
    assert!((0.0..=1.0).contains(&train_fraction), "split_by_characters: train_fraction is {train_fraction}");
    let n_characters = text.chars().count();
    let n_train = (train_fraction * n_characters as f64) as usize;
    let cut = text.char_indices().nth(n_train).map_or(text.len(), |(byte, _)| byte);
    text.split_at(cut)
}

/// Samples of `window` tokens, `stride` apart. Clones share the tokens.
#[derive(Clone, Debug)]
pub struct Windows {
    tokens: Tokens,
    window: usize,
    stride: usize,
}

/// Where the tokens are stored.
#[derive(Clone, Debug)]
enum Tokens {
    Memory(Arc<[u32]>),
    Files(Arc<ShardSet>),
}

impl Windows {
    /// Divides `tokens` (any number of ids) into samples of `window` tokens, without copying or allocating.
    ///
    /// # Errors
    ///
    /// Fails if the window or stride is zero, or if there are fewer than `window` + 1 tokens.
    pub fn new(tokens: Arc<[u32]>, window: usize, stride: usize) -> Result<Self, WindowsError> {
        Self::of(Tokens::Memory(tokens), window, stride)
    }

    /// As [`new`](Self::new), for tokens that stay on disk; each sample is read when it is requested.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn of_shards(shards: Arc<ShardSet>, window: usize, stride: usize) -> Result<Self, WindowsError> {
        Self::of(Tokens::Files(shards), window, stride)
    }

    fn of(tokens: Tokens, window: usize, stride: usize) -> Result<Self, WindowsError> {
        if window == 0 {
            return Err(WindowsError::Zero { key: "data.window" });
        }
        if stride == 0 {
            return Err(WindowsError::Zero { key: "data.stride" });
        }
        let windows = Self { tokens, window, stride };
        let n_tokens = windows.n_tokens();
        if n_tokens <= window {
            return Err(WindowsError::TooShort { part: "the text", n_tokens, window });
        }
        Ok(windows)
    }

    /// Number of samples, at least one.
    #[expect(clippy::len_without_is_empty, reason = "there is always a sample")]
    pub fn len(&self) -> usize {
        (self.n_tokens() - self.window).div_ceil(self.stride)
    }

    /// Number of tokens per sample (T).
    pub fn window(&self) -> usize {
        self.window
    }

    /// Number of tokens from the start of one sample to that of the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Number of tokens that the samples are cut from.
    pub fn n_tokens(&self) -> usize {
        match &self.tokens {
            Tokens::Memory(tokens) => tokens.len(),
            Tokens::Files(shards) => shards.n_tokens(),
        }
    }

    /// Passes all tokens to `visit` in order, piece by piece.
    ///
    /// # Errors
    ///
    /// If a token file can no longer be read.
    pub fn for_each_piece(&self, mut visit: impl FnMut(&[u32])) -> Result<(), ShardError> {
        const PIECE_TOKENS: usize = 1 << 18;
        match &self.tokens {
            Tokens::Memory(tokens) => visit(tokens),
            Tokens::Files(shards) => {
                let mut piece = vec![0; PIECE_TOKENS.min(shards.n_tokens())];
                for start in (0..shards.n_tokens()).step_by(PIECE_TOKENS) {
                    let end = (start + PIECE_TOKENS).min(shards.n_tokens());
                    let piece = &mut piece[..end - start];
                    shards.read(start..end, piece)?;
                    visit(piece);
                }
            }
        }
        Ok(())
    }

    /// All tokens that the samples are cut from, or `None` if they are on disk.
    pub fn tokens(&self) -> Option<&[u32]> {
        match &self.tokens {
            Tokens::Memory(tokens) => Some(tokens),
            Tokens::Files(_) => None,
        }
    }

    /// Appends input and target of sample `i`, `window` tokens each, to `inputs` and `targets`. Allocates
    /// nothing if their capacity suffices.
    ///
    /// # Errors
    ///
    /// If a token file can no longer be read; nothing has been appended then.
    ///
    /// # Panics
    ///
    /// If sample `i` does not exist.
    pub fn read(&self, i: usize, inputs: &mut Vec<u32>, targets: &mut Vec<u32>) -> Result<(), ShardError> {
        assert!(i < self.len(), "windows: sample {i} of {}", self.len());
        let (start, window) = (i * self.stride, self.window);
        match &self.tokens {
            Tokens::Memory(tokens) => {
                let sample = &tokens[start..start + window + 1];
                inputs.extend_from_slice(&sample[..window]);
                targets.extend_from_slice(&sample[1..]);
            }
            Tokens::Files(shards) => {
                let at = inputs.len();
                inputs.resize(at + window, 0);
                let mut last = [0];
                let read = shards
                    .read(start..start + window, &mut inputs[at..])
                    .and_then(|()| shards.read(start + window..start + window + 1, &mut last));
                if let Err(error) = read {
                    inputs.truncate(at);
                    return Err(error);
                }
                targets.extend_from_slice(&inputs[at + 1..]);
                targets.extend(last);
            }
        }
        Ok(())
    }
}
