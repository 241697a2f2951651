//! Validates the settings of a run, by section and together.

use super::config::RunConfig;
use super::config_error::TrainConfigError;
use crate::data::{DataConfigError, Splits};
use crate::device::DeviceConfigError;
use crate::model;
use crate::tokenizer::{Special, Tokenizer, TokenizerError};

/// Invalid settings of a run.
#[derive(Debug, thiserror::Error)]
pub enum RunConfigError {
    /// An invalid value in `[model]`.
    #[error(transparent)]
    Model(#[from] model::ConfigError),
    /// An invalid value in `[data]`.
    #[error(transparent)]
    Data(#[from] DataConfigError),
    /// An invalid value in `[train]` or another section about training.
    #[error(transparent)]
    Train(#[from] TrainConfigError),
    /// An invalid value in `[device]`.
    #[error(transparent)]
    Device(#[from] DeviceConfigError),
    /// A window longer than the model's context.
    #[error("data.window is {window}, the model's context (model.n_positions) is {n_positions}")]
    Window {
        /// Number of tokens per window (T).
        window: usize,
        /// Number of positions in the model's context.
        n_positions: usize,
    },
    /// More steps than can be counted.
    #[error("train.epochs is {epochs}: expected at most {most}")]
    Steps {
        /// The number of epochs in the settings.
        epochs: u64,
        /// The maximum number of epochs for this text.
        most: u64,
    },
    /// A tokenizer with ids outside the model's vocabulary.
    #[error("the tokenizer has {n_tokens} tokens, model.vocab_size is {vocab_size}")]
    Vocabulary {
        /// Number of token ids in the tokenizer.
        n_tokens: usize,
        /// V, the model's vocabulary size.
        vocab_size: usize,
    },
    /// The sample prompt cannot be encoded by the tokenizer.
    #[error("the prompt of the samples, {prompt:?}: {source}")]
    Prompt {
        /// The prompt in `sample.prompt`.
        prompt: String,
        /// The error that the tokenizer returned.
        source: TokenizerError,
    },
    /// The sample prompt is empty or exceeds the model's context.
    #[error("the prompt of the samples has {n_tokens} tokens, the model's context is {n_positions}")]
    PromptLength {
        /// Number of tokens in the prompt.
        n_tokens: usize,
        /// Number of positions in the model's context.
        n_positions: usize,
    },
}

impl RunConfig {
    /// Checks the values of every section, and those that depend on each other: windows must fit the model's context,
    /// and new weights must be possible with `train.rng`.
    ///
    /// [`validate_tokenizer`](Self::validate_tokenizer) and [`Splits::from_text`] check what depends on the tokenizer
    /// and the length of the text.
    ///
    /// # Errors
    /// Returns the first invalid value and the accepted ones.
    pub fn validate(&self) -> Result<(), RunConfigError> {
        self.model.validate()?;
        self.data.validate()?;
        let (window, n_positions) = (self.data.window, self.model.n_positions);
        if window > n_positions {
            return Err(RunConfigError::Window { window, n_positions });
        }
        if self.tokenizer.kind.trim().is_empty() {
            let (key, value) = ("tokenizer.kind", format!("{:?}", self.tokenizer.kind));
            let expected = "gpt2, simple-v1, simple-v2 or the path of a tokenizer.json";
            return Err(TrainConfigError { key, value, expected }.into());
        }
        self.validate_training()?;
        if self.init_from.is_empty() {
            self.validate_fresh_weights()?;
        }
        Ok(self.device.validate()?)
    }

    /// Checks that the model has every id of the tokenizer, and that the sample prompt can be encoded and fits the
    /// context.
    ///
    /// # Errors
    /// Describes the mismatch, with the sizes found.
    pub fn validate_tokenizer(&self, tokenizer: &dyn Tokenizer) -> Result<(), RunConfigError> {
        let (n_tokens, vocab_size) = (tokenizer.n_vocab(), self.model.vocab_size);
        if n_tokens > vocab_size {
            return Err(RunConfigError::Vocabulary { n_tokens, vocab_size });
        }
        self.validate_prompt(tokenizer)
    }

    /// Checks that the sample prompt can be encoded with ids that the model has, and fits the context: for a model whose
    /// tokenizer has more tokens than it. The caller checks the ids of the text.
    ///
    /// # Errors
    /// Describes what is wrong with the prompt.
    pub fn validate_prompt(&self, tokenizer: &dyn Tokenizer) -> Result<(), RunConfigError> {
        if self.sample.max_tokens == 0 {
            return Ok(());
        }
        let prompt = &self.sample.prompt;
        let tokens = tokenizer.encode(prompt, Special::Allow);
        let n_vocab = self.model.vocab_size;
        let tokens = tokens.and_then(|tokens| match tokens.iter().find(|&&id| id as usize >= n_vocab) {
            Some(&id) => Err(TokenizerError::UnknownId { id, n_vocab }),
            None => Ok(tokens),
        });
        let tokens = tokens.map_err(|source| RunConfigError::Prompt { prompt: prompt.clone(), source })?;

        let (n_tokens, n_positions) = (tokens.len(), self.model.n_positions);
        if n_tokens == 0 || n_tokens > n_positions {
            return Err(RunConfigError::PromptLength { n_tokens, n_positions });
        }
        Ok(())
    }

    /// Reduces batch sizes that exceed the number of windows in the text. The batches stay the same, but less memory is
    /// allocated, which depends on the size in the settings.
    ///
    /// # Errors
    /// If the steps of all epochs are too many to be counted.
    pub fn fit_batches(&mut self, splits: &Splits) -> Result<(), RunConfigError> {
        self.data = self.data.resolved();
        let data = &mut self.data;
        data.batch_size = data.batch_size.min(splits.train.n_windows());
        data.eval_batch_size = data.eval_batch_size.min(splits.validation.n_windows().max(data.batch_size));
        let (epochs, per_epoch) = (self.train.epochs, splits.train.n_batches() as u64);
        if epochs.checked_mul(per_epoch).is_none() {
            return Err(RunConfigError::Steps { epochs, most: u64::MAX / per_epoch });
        }
        Ok(())
    }

    /// Checks the sections about training.
    pub(super) fn validate_training(&self) -> Result<(), TrainConfigError> {
        self.train.validate()?;
        self.schedule.validate()?;
        self.early_stopping.validate()?;
        self.guard.validate()?;
        self.checkpoint.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;
    use crate::tokenizer::SimpleTokenizer;

    /// The error message after a change to the settings of `tiny`.
    fn message(change: impl FnOnce(&mut RunConfig)) -> String {
        let mut config = RunConfig::of_preset(Preset::Tiny);
        change(&mut config);
        config.validate().map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn every_preset_is_valid() {
        for preset in Preset::ALL {
            RunConfig::of_preset(preset).validate().unwrap();
        }
    }

    #[test]
    fn every_section_is_checked() {
        assert!(message(|c| c.model.n_head = 3).contains("model.n_head is 3"));
        assert!(message(|c| c.data.stride = 0).contains("data.stride = 0"));
        assert!(message(|c| c.tokenizer.kind.clear()).contains("tokenizer.kind is \"\""));
        assert!(message(|c| c.train.lr = -1.0).contains("train.lr is -1"));
        assert!(message(|c| c.schedule.final_factor = 2.0).contains("schedule.final_factor is 2"));
        assert!(message(|c| c.guard.z_score = 1.0).contains("guard.z_score is 1"));
        assert!(message(|c| c.checkpoint.keep = 0).contains("checkpoint.keep is 0"));
        assert!(message(|c| c.device.precision = "fp8".to_owned()).contains("device.precision is 'fp8'"));
    }

    #[test]
    fn sections_are_checked_together() {
        let too_long = message(|c| c.data.window = c.model.n_positions + 1);
        assert!(too_long.contains("data.window is") && too_long.contains("model.n_positions"), "{too_long}");
        let torch = |config: &mut RunConfig| config.train.rng = super::super::Rng::Torch;
        assert!(message(torch).contains("model.init is gpt2"));
        let given = |config: &mut RunConfig| (torch(config), config.init_from = "model".to_owned()).1;
        assert_eq!(message(given), "", "given weights are not drawn");
    }

    #[test]
    fn a_tokenizer_must_fit_the_model_and_the_prompt() {
        let words = SimpleTokenizer::v1("every effort moves a reed").unwrap();
        let mut config = RunConfig::of_preset(Preset::Tiny);
        config.sample.prompt = "every reed".to_owned();
        config.validate_tokenizer(&words).unwrap();
        config.model.vocab_size = 4;
        let error = config.validate_tokenizer(&words).unwrap_err().to_string();
        assert!(error.contains("has 5 tokens, model.vocab_size is 4"), "{error}");
        (config.model.vocab_size, config.sample.prompt) = (5, "zebra".to_owned());
        let error = config.validate_tokenizer(&words).unwrap_err().to_string();
        assert!(error.contains("prompt of the samples") && error.contains("zebra"), "{error}");
        config.sample.prompt = String::new();
        assert!(config.validate_tokenizer(&words).unwrap_err().to_string().contains("has 0 tokens"));
        config.sample.max_tokens = 0;
        config.validate_tokenizer(&words).unwrap();
    }
}
