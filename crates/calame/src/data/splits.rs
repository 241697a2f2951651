//! The batches of both splits of a text.

use std::ops::Range;
use std::sync::Arc;

use super::config::{DataConfig, DataConfigError};
use super::corpus::Corpus;
use super::loader::{Loader, LoaderError};
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
        data.validate()?;
        let cut = cut_of(text, tokenizer, data);
        let encode = |part: Range<usize>| tokenizer.encode(&text[part], Special::Allow);
        Splits::of_parts([0..cut, cut..text.len()], encode, data)
    }

    /// As [`Splits::from_text`], for the documents of a corpus, which are encoded by [`Corpus::encode`].
    ///
    /// # Errors
    /// As [`Splits::from_text`].
    pub fn from_corpus(corpus: &Corpus, tokenizer: &dyn Tokenizer, data: &DataConfig) -> Result<Splits, SplitsError> {
        data.validate()?;
        let cut = cut_of(corpus.text(), tokenizer, data);
        let encode = |part: Range<usize>| corpus.encode(part, tokenizer);
        Splits::of_parts([0..cut, cut..corpus.text().len()], encode, data)
    }

    fn of_parts(
        [train, validation]: [Range<usize>; 2],
        encode: impl Fn(Range<usize>) -> Result<Vec<u32>, TokenizerError>,
        data: &DataConfig,
    ) -> Result<Splits, SplitsError> {
        let windows = |range: Range<usize>, part: &'static str| -> Result<Windows, SplitsError> {
            let tokens: Arc<[u32]> = encode(range).map_err(|source| SplitsError::Tokenizer { part, source })?.into();
            Ok(Windows::new(tokens, data.window, data.stride).map_err(|error| error.in_part(part))?)
        };
        let (train, validation) = (windows(train, TRAINING)?, windows(validation, VALIDATION)?);
        Ok(Splits::new(train, validation, data)?)
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
        })
    }
}

/// Where the validation split of a text begins, in bytes.
fn cut_of(text: &str, tokenizer: &dyn Tokenizer, data: &DataConfig) -> usize {
    let (train, _) = split_by_characters(text, data.train_fraction);
    tokenizer.cut_at(text, train.len())
}
