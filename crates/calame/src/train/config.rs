//! The settings of a run, `config.toml`: one section per component.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checkpoint_config::CheckpointConfig;
use super::config_error::TrainConfigError;
use super::early_stopping::EarlyStoppingConfig;
use super::guard::GuardConfig;
use super::log_config::LogConfig;
use super::recipe::Recipe;
use super::schedule::ScheduleConfig;
use crate::data::DataConfig;
use crate::device::DeviceConfig;
use crate::formats::CheckpointError;
use crate::model::{Init, ModelConfig, Preset};
use crate::tokenizer::TokenizerConfig;

/// The source of a run's random numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Rng {
    /// Every number is a function of the seed and its purpose; drawing for one purpose does not affect another.
    #[default]
    Calame,
    /// One generator, used in the order in which the report's PyTorch script draws on a CPU.
    Torch,
}

/// How the loss of a step is averaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LossAverage {
    /// Mean over all tokens of the step: loss and gradient equal those of one large batch, however it is divided.
    #[default]
    Token,
    /// Mean over the batches' means, as in the book: a batch that is not full has the same weight as the others.
    Book,
}

/// The parameters that weight decay applies to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Decayed {
    /// All parameters, as in the report.
    #[default]
    All,
    /// Embeddings and linear weights, but neither biases nor layer normalisations, as in GPT-2.
    Matrices,
}

/// Section `[train]`: how to train. The defaults are the report's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Number of passes over the training text.
    pub epochs: u64,
    /// Steps after which the training ends, even within an epoch; `"off"` for no limit besides the epochs.
    #[serde(with = "super::off")]
    #[schemars(schema_with = "super::schema::number_or_off")]
    pub max_steps: Option<u64>,
    /// Peak learning rate; section `[schedule]` multiplies it by a factor for each step.
    pub lr: f64,
    /// Weight decay: the share subtracted from every decayed parameter per step, multiplied by the learning rate.
    pub weight_decay: f64,
    /// β₁ of AdamW, the decay of the running mean of gradients.
    pub beta1: f64,
    /// β₂ of AdamW, the decay of the running mean of squared gradients.
    pub beta2: f64,
    /// ε of AdamW, added to the root of the second moment.
    pub eps: f64,
    /// Steps between evaluations; the first is made after step 0.
    pub eval_every: u64,
    /// Number of batches per split in an evaluation.
    pub eval_batches: usize,
    /// Seed of initial weights, sample order and dropout. PyTorch's generator uses its low 32 bits.
    pub seed: u64,
    /// Source of random numbers: `calame` or `torch`.
    pub rng: Rng,
    /// Number of batches whose gradients are accumulated for one step.
    pub accumulate: usize,
    /// How the loss of a step is averaged: `token` or `book`.
    pub loss_average: LossAverage,
    /// Maximum norm of a step's gradient; larger gradients are scaled down to it. 0 disables clipping.
    pub clip_norm: f64,
    /// The parameters that `weight_decay` applies to: `all` or `matrices`.
    pub decayed: Decayed,
}

impl Default for TrainConfig {
    fn default() -> TrainConfig {
        TrainConfig {
            epochs: 10,
            max_steps: None,
            lr: 4e-4,
            weight_decay: 0.1,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            eval_every: 5,
            eval_batches: 5,
            seed: 123,
            rng: Rng::Calame,
            accumulate: 1,
            loss_average: LossAverage::Token,
            clip_norm: 0.0,
            decayed: Decayed::All,
        }
    }
}

/// Section `[sample]`: the text generated after every epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SampleConfig {
    /// The prompt that is continued.
    pub prompt: String,
    /// Number of tokens generated, greedily; 0 disables samples.
    pub max_tokens: usize,
}

impl Default for SampleConfig {
    fn default() -> SampleConfig {
        SampleConfig { prompt: "Every effort moves you".to_owned(), max_tokens: 50 }
    }
}

/// All settings of a run, sufficient to repeat it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Version of calame that resolved the settings.
    pub version: String,
    /// The preset that determined the model's shape and some defaults.
    pub preset: String,
    /// The recipe that determined further defaults.
    #[serde(default = "default_recipe")]
    pub recipe: String,
    /// Path of the model that provided the initial weights; empty for new weights.
    pub init_from: String,
    /// SHA-256 of the text once it is loaded. A resumed run detects by it that the text has changed.
    pub text_sha256: String,
    /// Section `[model]`: the model's shape.
    pub model: ModelConfig,
    /// Section `[data]`: the text and its batches.
    pub data: DataConfig,
    /// Section `[tokenizer]`: which tokenizer is used.
    pub tokenizer: TokenizerConfig,
    /// Section `[train]`: optimizer, loss and evaluations.
    pub train: TrainConfig,
    /// Section `[schedule]`: the learning rate over the steps.
    #[serde(default)]
    pub schedule: ScheduleConfig,
    /// Section `[early_stopping]`: when to end before the last epoch.
    #[serde(default)]
    pub early_stopping: EarlyStoppingConfig,
    /// Section `[guard]`: how failed steps are handled.
    #[serde(default)]
    pub guard: GuardConfig,
    /// Section `[checkpoint]`: when training states are saved.
    #[serde(default)]
    pub checkpoint: CheckpointConfig,
    /// Section `[sample]`: the text generated after every epoch.
    pub sample: SampleConfig,
    /// Section `[log]`: files for other programs to follow the run.
    #[serde(default)]
    pub log: LogConfig,
    /// Section `[device]`: device, threads and precision.
    pub device: DeviceConfig,
}

fn default_recipe() -> String {
    Recipe::Book.name().to_owned()
}

impl RunConfig {
    /// The defaults of a preset: the report's, except for the higher learning rates of `small` and `tiny`.
    pub fn of_preset(preset: Preset) -> RunConfig {
        let mut config = RunConfig {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            preset: preset.name().to_owned(),
            recipe: default_recipe(),
            init_from: String::new(),
            text_sha256: String::new(),
            model: preset.config(),
            data: DataConfig::default(),
            tokenizer: TokenizerConfig::default(),
            train: TrainConfig::default(),
            schedule: ScheduleConfig::default(),
            early_stopping: EarlyStoppingConfig::default(),
            guard: GuardConfig::default(),
            checkpoint: CheckpointConfig::default(),
            sample: SampleConfig::default(),
            log: LogConfig::default(),
            device: DeviceConfig::default(),
        };
        match preset {
            Preset::Small => {
                config.train.lr = 1e-3;
                // Steps are short and a book has thousands: evaluating every fifth step would take a third of the time.
                config.train.eval_every = 25;
            }
            Preset::Tiny => {
                config.data.window = 64;
                config.data.stride = 16;
                config.train.lr = 3e-3;
                config.train.eval_every = 20;
            }
            _ => {}
        }
        config
    }

    /// The contents of `config.toml`; `path` names the file in errors.
    pub(super) fn to_toml(&self, path: &Path) -> Result<String, CheckpointError> {
        toml::to_string_pretty(self).map_err(|error| CheckpointError::Config {
            path: path.to_owned(),
            key: "the run's settings",
            found: error.to_string(),
            expected: "values that TOML can hold".to_owned(),
        })
    }

    /// Checks that new weights of this shape can be drawn by `train.rng`: PyTorch's generator follows the book's
    /// GPTModel.
    ///
    /// # Errors
    /// Returns the first model setting that the book's model does not have.
    pub fn validate_fresh_weights(&self) -> Result<(), TrainConfigError> {
        let error = |key, value: &str, expected| Err(TrainConfigError { key, value: value.to_owned(), expected });
        if self.train.rng == Rng::Calame {
            return Ok(());
        }
        if self.model.init != Init::Pytorch {
            let expected = "pytorch, since train.rng = torch draws the weights as the book's PyTorch script does \
                            (set model.init=pytorch, or train.rng=calame)";
            return error("model.init", "gpt2", expected);
        }
        if self.model.tied_head {
            let expected = "false, since train.rng = torch draws the weights of the book's GPTModel, whose head is its \
                            own (set model.tied_head=false, or train.rng=calame)";
            return error("model.tied_head", "true", expected);
        }
        Ok(())
    }
}

impl TrainConfig {
    /// Steps of a training whose epochs have `per_epoch` steps.
    pub fn n_steps(&self, per_epoch: u64) -> u64 {
        per_epoch.saturating_mul(self.epochs).min(self.max_steps.unwrap_or(u64::MAX))
    }

    /// Checks that the values are within their ranges.
    ///
    /// # Errors
    /// Returns the first invalid value and the accepted ones.
    pub fn validate(&self) -> Result<(), TrainConfigError> {
        let share = |x: f64| (0.0..1.0).contains(&x);
        let checks: [(&'static str, String, bool, &'static str); 11] = [
            ("train.max_steps", "0".to_owned(), self.max_steps != Some(0), "at least 1, or \"off\""),
            ("train.epochs", self.epochs.to_string(), self.epochs > 0, "at least 1"),
            ("train.lr", self.lr.to_string(), self.lr > 0.0 && self.lr <= 1.0, "above 0, at most 1 (4e-4 is usual)"),
            ("train.weight_decay", self.weight_decay.to_string(), share(self.weight_decay), "from 0 to below 1"),
            ("train.beta1", self.beta1.to_string(), share(self.beta1), "from 0 to below 1"),
            ("train.beta2", self.beta2.to_string(), share(self.beta2), "from 0 to below 1"),
            ("train.eps", self.eps.to_string(), self.eps > 0.0 && self.eps <= 1.0, "above 0 (1e-8 is usual)"),
            ("train.eval_every", self.eval_every.to_string(), self.eval_every > 0, "at least 1"),
            ("train.eval_batches", self.eval_batches.to_string(), self.eval_batches > 0, "at least 1"),
            ("train.accumulate", self.accumulate.to_string(), self.accumulate > 0, "at least 1"),
            (
                "train.clip_norm",
                self.clip_norm.to_string(),
                self.clip_norm >= 0.0 && self.clip_norm.is_finite(),
                "0 for no clipping, or above it (1 is usual)",
            ),
        ];
        match checks.into_iter().find(|(_, _, fine, _)| !fine) {
            Some((key, value, _, expected)) => Err(TrainConfigError { key, value, expected }),
            None => Ok(()),
        }
    }
}
