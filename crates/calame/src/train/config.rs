//! A run's file: every value of every component, one section each.

use std::path::Path;

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

/// Where a run's random numbers come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rng {
    /// Each is a function of the seed and of what it is for: nothing that is drawn moves anything else.
    #[default]
    Calame,
    /// All come from one generator, in the order in which the report's PyTorch script draws them on a CPU.
    Torch,
}

/// What a step's loss is the mean of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossAverage {
    /// All tokens of the step: the loss and gradient of one large batch, however it is cut.
    #[default]
    Token,
    /// The batches' means, as the book has it: a batch that is not full counts as much as the others.
    Book,
}

/// Which parameters weight decay takes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decayed {
    /// Every one: the report's.
    #[default]
    All,
    /// Embeddings and the weights of linear layers, but neither biases nor layer normalisations: GPT-2's.
    Matrices,
}

/// How to train: section `[train]`. The defaults are the report's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Passes over the training text.
    pub epochs: u64,
    /// Learning rate.
    pub lr: f64,
    /// Share of every parameter taken away in a step, before `lr`.
    pub weight_decay: f64,
    /// Decay of AdamW's running mean of gradients.
    pub beta1: f64,
    /// Decay of its running mean of squared gradients.
    pub beta2: f64,
    /// Its ε.
    pub eps: f64,
    /// Steps from one evaluation to the next, the first after step 0.
    pub eval_every: u64,
    /// Batches of each split that an evaluation takes.
    pub eval_batches: usize,
    /// Seed of initial weights, order and dropout; of PyTorch's generator the low 32 bits count.
    pub seed: u64,
    /// Where random numbers come from.
    pub rng: Rng,
    /// Batches whose gradients are summed up before a step.
    pub accumulate: usize,
    /// What a step's loss is the mean of: `token` or `book`.
    pub loss_average: LossAverage,
    /// The norm that a step's gradient is cut to where it is larger; 0 cuts none.
    pub clip_norm: f64,
    /// Which parameters `weight_decay` takes from: `all` or `matrices`.
    pub decayed: Decayed,
}

impl Default for TrainConfig {
    fn default() -> TrainConfig {
        TrainConfig {
            epochs: 10,
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

/// The text written after every epoch: section `[sample]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SampleConfig {
    /// What it begins with.
    pub prompt: String,
    /// Tokens added, greedily; 0 writes none.
    pub max_tokens: usize,
}

impl Default for SampleConfig {
    fn default() -> SampleConfig {
        SampleConfig { prompt: "Every effort moves you".to_owned(), max_tokens: 50 }
    }
}

/// Everything that a run needs to be run again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The version of calame that resolved it.
    pub version: String,
    /// The preset that the model's shape and a few defaults came from.
    pub preset: String,
    /// The recipe that further defaults came from.
    #[serde(default = "default_recipe")]
    pub recipe: String,
    /// The model that the weights came from; empty for fresh ones.
    pub init_from: String,
    /// SHA-256 of the text, once it is loaded: a resume notices that it has changed.
    pub text_sha256: String,
    /// The shape.
    pub model: ModelConfig,
    /// The text.
    pub data: DataConfig,
    /// The tokenizer.
    pub tokenizer: TokenizerConfig,
    /// The training.
    pub train: TrainConfig,
    /// The learning rate over the steps.
    #[serde(default)]
    pub schedule: ScheduleConfig,
    /// When to end before the last epoch.
    #[serde(default)]
    pub early_stopping: EarlyStoppingConfig,
    /// Steps that go bad.
    #[serde(default)]
    pub guard: GuardConfig,
    /// What a stopped or killed run goes on from.
    #[serde(default)]
    pub checkpoint: CheckpointConfig,
    /// The text after every epoch.
    pub sample: SampleConfig,
    /// What is written for other programs to watch it by.
    #[serde(default)]
    pub log: LogConfig,
    /// Device and numbers.
    pub device: DeviceConfig,
}

fn default_recipe() -> String {
    Recipe::Book.name().to_owned()
}

impl RunConfig {
    /// A preset's defaults: the report's, but for `small` and `tiny`, whose models learn at larger rates.
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
                // Its steps are short, and a book has thousands: at every fifth, evaluations would take a third of the time.
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

    /// The run's file; `path` names it in errors.
    pub(super) fn to_toml(&self, path: &Path) -> Result<String, CheckpointError> {
        toml::to_string_pretty(self).map_err(|error| CheckpointError::Config {
            path: path.to_owned(),
            key: "the run's settings",
            found: error.to_string(),
            expected: "values that TOML can hold".to_owned(),
        })
    }

    /// Whether fresh weights of this shape can come from `train.rng`: PyTorch's generator follows the book's GPTModel.
    ///
    /// # Errors
    /// The value of the shape that the book's model cannot have.
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
    /// Whether a training can have these values.
    ///
    /// # Errors
    /// The first that it cannot, with what it may be.
    pub fn validate(&self) -> Result<(), TrainConfigError> {
        let share = |x: f64| (0.0..1.0).contains(&x);
        let checks: [(&'static str, String, bool, &'static str); 10] = [
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
