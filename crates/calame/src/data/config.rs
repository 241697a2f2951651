//! The section `[data]` of a run's configuration.

use serde::{Deserialize, Serialize};

/// Which text to learn, and how it is cut into samples and batches; the defaults are the report's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Files, folders, globs or names, joined in this order; none means the built-in story.
    pub inputs: Vec<String>,
    /// Share of the characters that is trained on, from the start of the text; the rest is for
    /// validation.
    pub train_fraction: f64,
    /// Tokens of a sample (T).
    pub window: usize,
    /// Tokens from the start of one sample to the start of the next.
    pub stride: usize,
    /// Samples of a training batch (B).
    pub batch_size: usize,
    /// Samples of an evaluation batch; 0 means as many as `batch_size`.
    pub eval_batch_size: usize,
    /// Whether each epoch takes the training samples in a new random order.
    pub shuffle: bool,
    /// Whether training leaves out a last batch that is not full; validation never does.
    pub drop_last: bool,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            inputs: Vec::new(),
            train_fraction: 0.9,
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
    /// The value found.
    pub value: String,
    /// What was expected.
    pub expected: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

impl DataConfig {
    /// Checks every value on its own; whether the text is long enough for them is said by
    /// [`Windows::new`](super::Windows::new) and [`Loader::new`](super::Loader::new).
    ///
    /// # Errors
    ///
    /// The first value that cannot be used, with its key and what to set instead.
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

    /// The same configuration with every value that stands for another one replaced by it.
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

/// A batch is one buffer of B·T ids of four bytes.
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
