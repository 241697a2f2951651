//! The samples of both parts of a text.

use std::sync::Arc;

use super::config::{DataConfig, DataConfigError};
use super::loader::{Loader, LoaderError};
use super::windows::{Windows, WindowsError, split_by_characters};
use crate::tokenizer::{Special, Tokenizer, TokenizerError};

const TRAINING: &str = "the training part";
const VALIDATION: &str = "the validation part";

/// The samples of both splits.
#[derive(Debug)]
pub struct Splits {
    /// Trained on, in a new order every epoch.
    pub train: Loader,
    /// The same samples, for the training loss of evaluations: in their order, but where the run follows a PyTorch script.
    pub train_evaluated: Loader,
    /// Never trained on.
    pub validation: Loader,
}

/// Why a text cannot be cut into batches.
#[derive(Debug, thiserror::Error)]
pub enum SplitsError {
    /// A value of `[data]` that no text can be cut by.
    #[error(transparent)]
    Config(#[from] DataConfigError),
    /// A part of the text that the tokenizer cannot encode.
    #[error("{part}: {source}")]
    Tokenizer {
        /// The part, as messages call it.
        part: &'static str,
        /// What cannot be encoded.
        source: TokenizerError,
    },
    /// A part that is shorter than one window.
    #[error(transparent)]
    Windows(#[from] WindowsError),
    /// A part that has not one batch.
    #[error(transparent)]
    Loader(#[from] LoaderError),
}

impl Splits {
    /// Encodes a text and cuts it into batches as a run's section `[data]` says: the first `train_fraction` of its characters
    /// is trained on, the rest is for validation. Texts of special tokens, such as `<|endoftext|>`, become their ids.
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
    /// If a value of `[data]` cannot be used, the tokenizer cannot encode a part, or a part has not one batch.
    pub fn from_text(text: &str, tokenizer: &dyn Tokenizer, data: &DataConfig) -> Result<Splits, SplitsError> {
        data.validate()?;
        let (train, validation) = split_by_characters(text, data.train_fraction);
        let windows = |text: &str, part: &'static str| -> Result<Windows, SplitsError> {
            let tokens = tokenizer.encode(text, Special::Allow);
            let tokens: Arc<[u32]> = tokens.map_err(|source| SplitsError::Tokenizer { part, source })?.into();
            Ok(Windows::new(tokens, data.window, data.stride).map_err(|error| error.in_part(part))?)
        };
        let (train, validation) = (windows(train, TRAINING)?, windows(validation, VALIDATION)?);
        Ok(Splits::new(train, validation, data)?)
    }

    /// Batches of both parts as a run's section `[data]` says: evaluations take `eval_batch_size` windows and no window is
    /// left out of them.
    ///
    /// # Errors
    /// If a part has not one batch.
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
