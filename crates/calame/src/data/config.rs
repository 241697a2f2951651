//! The section `[data]` of a run's configuration.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::documents::{Normalisation, ReadAs, ReadOptions, SpecialTokens};
use super::split::ValidationPart;

/// The training text and how it is cut into samples and batches; the defaults are the report's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Files, folders, globs or names, joined in this order; if empty, the built-in story is used.
    pub inputs: Vec<String>,
    /// The field of a JSON line that contains the document.
    pub field: String,
    /// The column of a Parquet file that contains the document.
    pub column: String,
    /// How a file's contents are understood: `auto`, `text` or `jsonl`.
    pub read_as: ReadAs,
    /// What special tokens in a text are: `ids` (`<|endoftext|>` separates documents) or `text`.
    pub special_tokens: SpecialTokens,
    /// Whether Project Gutenberg's header and licence are removed.
    pub strip_gutenberg: bool,
    /// Unicode normalisation applied to the text: `none` or `nfc`.
    pub normalise: Normalisation,
    /// Whether documents equal to an earlier one are dropped.
    pub dedup: bool,
    /// Share of the characters used for training, from the start of the text or of each document; the rest is for
    /// validation.
    pub train_fraction: f64,
    /// Which part of a text of several documents is for validation: `documents` (the end of each) or `end`.
    #[serde(default = "ValidationPart::before_it_existed")]
    pub validation: ValidationPart,
    /// Tokens per sample (T).
    pub window: usize,
    /// Tokens from the start of one sample to the start of the next.
    pub stride: usize,
    /// Samples per training batch (B).
    pub batch_size: usize,
    /// Samples per evaluation batch; 0 means the same as `batch_size`.
    pub eval_batch_size: usize,
    /// Whether each epoch visits the training samples in a new random order.
    pub shuffle: bool,
    /// Whether training skips a final batch that is not full; validation never does.
    pub drop_last: bool,
}

impl Default for DataConfig {
    fn default() -> Self {
        let ReadOptions { field, column, read_as, special_tokens, strip_gutenberg, normalise, dedup } =
            ReadOptions::default();
        Self {
            inputs: Vec::new(),
            field,
            column,
            read_as,
            special_tokens,
            strip_gutenberg,
            normalise,
            dedup,
            train_fraction: 0.9,
            validation: ValidationPart::Documents,
            window: 256,
            stride: 128,
            batch_size: 4,
            eval_batch_size: 0,
            shuffle: true,
            drop_last: true,
        }
    }
}

/// A value of `[data]` that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {value}: expected {expected}; {remedy}")]
pub struct DataConfigError {
    /// The key with its section, such as `data.window`.
    pub key: &'static str,
    /// The value found, as it would be typed.
    pub value: String,
    /// The accepted range or kind, such as "at least 1".
    pub expected: &'static str,
    /// What the user should change, worded as an instruction.
    pub remedy: &'static str,
}

impl DataConfig {
    /// Checks each value by itself. Whether the text is long enough is checked by
    /// [`Windows::new`](super::Windows::new) and [`Loader::new`](super::Loader::new).
    ///
    /// # Errors
    ///
    /// Returns the first value that cannot be used, with its key and a remedy.
    pub fn validate(&self) -> Result<(), DataConfigError> {
        if let Some(blank) = self.inputs.iter().find(|input| input.trim().is_empty()) {
            return Err(DataConfigError {
                key: "data.inputs",
                value: format!("{blank:?}"),
                expected: "files, folders, globs or names",
                remedy: "leave the empty one out (no input at all means the built-in story)",
            });
        }
        // Written so that NaN fails too.
        if !(self.train_fraction > 0.0 && self.train_fraction < 1.0) {
            return Err(DataConfigError {
                key: "data.train_fraction",
                value: self.train_fraction.to_string(),
                expected: "a number above 0 and below 1",
                remedy: "0.9 trains on nine tenths of the text and validates on the last tenth",
            });
        }
        at_least_one("data.window", self.window, "the report's window is 256 tokens")?;
        at_least_one("data.stride", self.stride, "the report's stride is 128 tokens")?;
        at_least_one("data.batch_size", self.batch_size, "the report's batch is 4 samples")?;
        tokens_fit("data.batch_size", self.batch_size, self.window)?;
        tokens_fit("data.eval_batch_size", self.eval_batch_size, self.window)
    }

    /// How the files are read as documents. Another value changes the text.
    pub fn reading(&self) -> ReadOptions {
        ReadOptions {
            field: self.field.clone(),
            column: self.column.clone(),
            read_as: self.read_as,
            special_tokens: self.special_tokens,
            strip_gutenberg: self.strip_gutenberg,
            normalise: self.normalise,
            dedup: self.dedup,
        }
    }

    /// The same configuration with placeholder values (such as `eval_batch_size = 0`) replaced by the values they mean.
    #[must_use]
    pub fn resolved(&self) -> Self {
        let mut resolved = self.clone();
        if resolved.eval_batch_size == 0 {
            resolved.eval_batch_size = resolved.batch_size;
        }
        resolved
    }
}

fn at_least_one(key: &'static str, value: usize, remedy: &'static str) -> Result<(), DataConfigError> {
    if value == 0 {
        return Err(DataConfigError { key, value: value.to_string(), expected: "at least 1", remedy });
    }
    Ok(())
}

/// Checks that a batch of B·T ids of 4 bytes fits one buffer.
fn tokens_fit(key: &'static str, batch_size: usize, window: usize) -> Result<(), DataConfigError> {
    if batch_size.checked_mul(window).is_none_or(|n_tokens| n_tokens > isize::MAX as usize / 4) {
        return Err(DataConfigError {
            key,
            value: batch_size.to_string(),
            expected: "a batch of data.batch_size · data.window tokens that can be addressed",
            remedy: "set a smaller --batch-size or --window",
        });
    }
    Ok(())
}
