//! The batches of both splits of a text.

use std::ops::Range;
use std::sync::Arc;

use super::config::{DataConfig, DataConfigError};
use super::corpus::Corpus;
use super::loader::{Loader, LoaderError};
use super::split::{TextParts, split_documents};
use super::windows::{Windows, WindowsError, split_by_characters};
use crate::tokenizer::{Special, Tokenizer, TokenizerError};

const TRAINING: &str = "the training part";
const VALIDATION: &str = "the validation part";

/// The batches of the training and the validation split.
#[derive(Debug)]
pub struct Splits {
    /// The training split, in a new order every epoch.
    pub train: Loader,
    /// The training split again, for the training loss of evaluations. In ascending order, unless the run
    /// follows a PyTorch script.
    pub train_evaluated: Loader,
    /// The validation split, which is never trained on.
    pub validation: Loader,
    /// Bytes of text per token of the validation split, if they are known. They turn losses into bits per byte.
    pub validation_bytes_per_token: Option<f64>,
}

/// Why a text cannot be cut into batches.
#[derive(Debug, thiserror::Error)]
pub enum SplitsError {
    /// A value of `[data]` that is never valid.
    #[error(transparent)]
    Config(#[from] DataConfigError),
    /// The tokenizer cannot encode a split.
    #[error("{part}: {source}")]
    Tokenizer {
        /// The split, as messages name it.
        part: &'static str,
        /// The error that the tokenizer returned.
        source: TokenizerError,
    },
    /// A split that is shorter than one window.
    #[error(transparent)]
    Windows(#[from] WindowsError),
    /// A split that has no batch.
    #[error(transparent)]
    Loader(#[from] LoaderError),
    /// A text that is too short for the settings, with settings that would fit both splits.
    #[error("{problem}; {remedy}")]
    TooShort {
        /// What is too short, and what it would need.
        problem: String,
        /// Settings that give at least one batch of each split, or the advice to give more text.
        remedy: String,
    },
}

impl Splits {
    /// Tokenizes a text and cuts it into batches as configured in a run's `[data]` section. The first
    /// `train_fraction` of its characters is the training split, the rest the validation split; a tokenizer of words
    /// moves the cut to the start of a word. The text of a special token, such as `<|endoftext|>`, becomes its id.
    ///
    /// ```
    /// use calame::data::{DataConfig, Splits};
    /// use calame::tokenizer::Bpe;
    ///
    /// let text = "A reed pen writes in one colour. ".repeat(20);
    /// let data = DataConfig { window: 8, stride: 8, batch_size: 2, ..DataConfig::default() };
    /// let splits = Splits::from_text(&text, Bpe::gpt2().as_ref(), &data)?;
    /// assert_eq!((splits.train.batch_size(), splits.train.window()), (2, 8));
    /// # Ok::<(), calame::data::SplitsError>(())
    /// ```
    ///
    /// # Errors
    /// If a value of `[data]` is invalid, the tokenizer cannot encode a split, or a split has no batch.
    pub fn from_text(text: &str, tokenizer: &dyn Tokenizer, data: &DataConfig) -> Result<Splits, SplitsError> {
        Splits::from_documents(text, &[0], tokenizer, data)
    }

    /// As [`from_text`](Self::from_text), for a text whose documents start at the bytes `starts`, in ascending order:
    /// `data.validation` says which part of them is for validation.
    ///
    /// # Errors
    /// As [`from_text`](Self::from_text).
    ///
    /// # Panics
    /// If a start is not the start of a character.
    pub fn from_documents(
        text: &str,
        starts: &[usize],
        tokenizer: &dyn Tokenizer,
        data: &DataConfig,
    ) -> Result<Splits, SplitsError> {
        data.validate()?;
        let encode = |pieces: &[Range<usize>]| {
            let encoded = pieces.iter().map(|piece| tokenizer.encode(&text[piece.clone()], Special::Allow));
            let tokens = encoded.collect::<Result<Vec<_>, _>>()?;
            // A single piece is not copied again: it may be gigabytes.
            Ok(match <[Vec<u32>; 1]>::try_from(tokens) {
                Ok([whole]) => whole,
                Err(tokens) => tokens.concat(),
            })
        };
        Splits::of_parts(parts_of(text, starts, tokenizer, data), encode, data)
    }

    /// As [`from_text`](Self::from_text), for the documents of a corpus, which [`Corpus::encode`] encodes. The texts of
    /// files, lines and rows are the documents of [`from_documents`](Self::from_documents): separators inside one text
    /// do not change its split.
    ///
    /// # Errors
    /// As [`from_text`](Self::from_text).
    pub fn from_corpus(corpus: &Corpus, tokenizer: &dyn Tokenizer, data: &DataConfig) -> Result<Splits, SplitsError> {
        data.validate()?;
        let parts = parts_of(corpus.text(), &corpus.starts(), tokenizer, data);
        Splits::of_parts(parts, |pieces| corpus.encode(pieces, tokenizer), data)
    }

    fn of_parts(
        parts: TextParts,
        encode: impl Fn(&[Range<usize>]) -> Result<Vec<u32>, TokenizerError>,
        data: &DataConfig,
    ) -> Result<Splits, SplitsError> {
        let TextParts { train, validation } = parts;
        let n_bytes: usize = validation.iter().map(Range::len).sum();
        let encode = |pieces: &[Range<usize>], part: &'static str| -> Result<Arc<[u32]>, SplitsError> {
            Ok(encode(pieces).map_err(|source| SplitsError::Tokenizer { part, source })?.into())
        };
        let (train, validation) = (encode(&train, TRAINING)?, encode(&validation, VALIDATION)?);
        let n_tokens = (train.len(), validation.len());
        let splits = Splits::of_tokens(train, validation, data).map_err(|error| with_remedy(error, n_tokens, data))?;
        Ok(Splits { validation_bytes_per_token: Some(n_bytes as f64 / n_tokens.1 as f64), ..splits })
    }

    fn of_tokens(train: Arc<[u32]>, validation: Arc<[u32]>, data: &DataConfig) -> Result<Splits, SplitsError> {
        let windows = |tokens, part| Windows::new(tokens, data.window, data.stride).map_err(|e| e.in_part(part));
        Ok(Splits::new(windows(train, TRAINING)?, windows(validation, VALIDATION)?, data)?)
    }

    /// Cuts both splits into batches as configured in a run's `[data]` section. Evaluations use batches of
    /// `eval_batch_size` windows and skip no window.
    ///
    /// # Errors
    /// If a split has no batch.
    pub fn new(train: Windows, validation: Windows, data: &DataConfig) -> Result<Splits, LoaderError> {
        let data = data.resolved();
        let in_training = |error: LoaderError| error.in_part(TRAINING);
        Ok(Splits {
            train_evaluated: Loader::new(train.clone(), data.eval_batch_size, false).map_err(in_training)?,
            train: Loader::new(train, data.batch_size, data.drop_last).map_err(in_training)?,
            validation: Loader::new(validation, data.eval_batch_size, false)
                .map_err(|error| error.in_part(VALIDATION))?,
            validation_bytes_per_token: None,
        })
    }
}

/// The parts of a text whose documents start at `starts`. A tokenizer of words moves a cut to the start of a word.
fn parts_of(text: &str, starts: &[usize], tokenizer: &dyn Tokenizer, data: &DataConfig) -> TextParts {
    let cut = |piece: &str| tokenizer.cut_at(piece, split_by_characters(piece, data.train_fraction).0.len());
    split_documents(text, starts, data.validation, cut)
}

/// Replaces the remedy of a split that is too short by settings that fit both splits, so that following the advice does
/// not lead to the next error. `n_tokens` are the tokens of the training split and of the validation split.
fn with_remedy(error: SplitsError, n_tokens: (usize, usize), data: &DataConfig) -> SplitsError {
    let problem = match &error {
        SplitsError::Windows(WindowsError::TooShort { part, n_tokens, window }) => format!(
            "{part} has {n_tokens} tokens, but one window of {window} needs at least {}, since each token's target is \
             the next token",
            *window as u128 + 1
        ),
        SplitsError::Loader(LoaderError::NoBatch { part, n_windows, batch_size }) => format!(
            "{part} gives {n_windows} windows, but one batch needs {batch_size}, since data.drop_last leaves out a \
             batch that is not full"
        ),
        _ => return error,
    };
    let (train, validation) = n_tokens;
    let window = data.window.min(train.min(validation).saturating_sub(1));
    if window == 0 {
        let remedy = "give more text, or move the split with data.train_fraction".to_owned();
        return SplitsError::TooShort { problem, remedy };
    }
    let stride = if window == data.window { data.stride } else { data.stride.min(window) };
    let n_windows = (train - window).div_ceil(stride);
    let mut flags = String::new();
    if window != data.window {
        flags += &format!(" --window {window}");
    }
    if stride != data.stride {
        flags += &format!(" --stride {stride}");
    }
    if data.drop_last && n_windows < data.batch_size {
        flags += &format!(" --batch-size {n_windows}");
    }
    let remedy = format!("give more text, or use{flags}");
    SplitsError::TooShort { problem, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::Bpe;

    /// Reads the settings that a remedy names.
    fn followed(data: &DataConfig, remedy: &str) -> DataConfig {
        let words: Vec<&str> = remedy.split_whitespace().collect();
        let value = |flag: &str| {
            let at = words.iter().position(|word| *word == flag)?;
            words[at + 1].parse::<usize>().ok()
        };
        DataConfig {
            window: value("--window").unwrap_or(data.window),
            stride: value("--stride").unwrap_or(data.stride),
            batch_size: value("--batch-size").unwrap_or(data.batch_size),
            ..data.clone()
        }
    }

    /// Whatever is too short, the settings in the error's remedy fit at once.
    #[test]
    fn a_remedy_does_not_lead_to_another_error() {
        let bpe = Bpe::gpt2();
        let mut n_remedies = 0;
        for n_words in [5, 20, 30, 60, 100, 300, 400, 1100, 2600, 3000] {
            let text = "reed ".repeat(n_words);
            for (window, stride, batch_size, train_fraction) in
                [(256, 128, 4, 0.9), (256, 256, 4, 0.9), (64, 16, 4, 0.9), (8, 8, 500, 0.9), (256, 128, 4, 0.5)]
            {
                let data = DataConfig { window, stride, batch_size, train_fraction, ..DataConfig::default() };
                if let Err(error) = Splits::from_text(&text, bpe.as_ref(), &data) {
                    let SplitsError::TooShort { remedy, .. } = &error else { panic!("{error}") };
                    if remedy.contains("--") {
                        n_remedies += 1;
                        let followed = followed(&data, remedy);
                        Splits::from_text(&text, bpe.as_ref(), &followed)
                            .unwrap_or_else(|next| panic!("{n_words} words: {error}, then {next}"));
                    }
                }
            }
        }
        assert!(n_remedies > 20, "{n_remedies}");
    }

    #[test]
    fn bytes_per_token_are_those_of_the_validation_split() {
        let data = DataConfig { window: 8, stride: 8, ..DataConfig::default() };
        let bpe = Bpe::gpt2();
        // 90 % are words of five bytes and one token each, the rest digits of which each is a token.
        let text = format!("{}{}", " reed".repeat(180), " 7".repeat(50));
        let splits = Splits::from_text(&text, bpe.as_ref(), &data).unwrap();
        assert!((splits.validation_bytes_per_token.unwrap() - 2.0).abs() < 0.05);
        let (train, validation) = (splits.train.windows().clone(), splits.validation.windows().clone());
        assert_eq!(Splits::new(train, validation, &data).unwrap().validation_bytes_per_token, None);
    }
}
