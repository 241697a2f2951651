//! The shape of a model, and the shapes that have a name.

use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::settings::{by_name, four_times_or_number, one_in_100_000, yes};
use crate::ops::Activation;

/// How fresh weights are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// PyTorch's defaults: linear weights and biases uniform in ±1/√in, embeddings normal(0, 1).
    Pytorch,
    /// OpenAI's: all weights normal(0, 0.02), those that write to the residual stream divided by √(2L); biases 0.
    Gpt2,
}

/// The shape of a model: section `[model]` of a run's file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// V: rows of the token embedding and of the head.
    pub vocab_size: usize,
    /// Longest sequence: rows of the position embedding.
    pub n_positions: usize,
    /// C: width of the residual stream.
    pub n_embd: usize,
    /// NH: attention heads; they divide C.
    pub n_head: usize,
    /// L: number of blocks.
    pub n_layer: usize,
    /// Probability of dropping an element: of the embedding, of attention weights, of both branches of a block.
    pub dropout: f32,
    /// Whether the projection to queries, keys and values has a bias, in a model with biases.
    pub qkv_bias: bool,
    /// Whether the head is the token embedding.
    pub tied_head: bool,
    /// How fresh weights are drawn.
    pub init: Init,
    /// Whether linear layers and layer normalisations have biases; nanoGPT's models have none.
    #[serde(default = "yes")]
    pub bias: bool,
    /// Width of the MLP; `None`, `"4x"` in a file, is four times C.
    #[serde(default, with = "four_times_or_number")]
    #[schemars(schema_with = "schema_of_n_inner")]
    pub n_inner: Option<usize>,
    /// The function between the MLP's linear layers.
    #[serde(default, with = "by_name")]
    #[schemars(with = "String")]
    pub activation: Activation,
    /// ε: what layer normalisations add to the variance.
    #[serde(default = "one_in_100_000")]
    pub layer_norm_epsilon: f32,
    /// Whether the scores of attention are divided by √HS.
    #[serde(default = "yes")]
    pub scale_attn_weights: bool,
    /// Whether the scores of attention in the first block, the second, the third, … are divided by 1, 2, 3, …
    #[serde(default)]
    pub scale_attn_by_inverse_layer_idx: bool,
}

/// The schema of `n_inner` in a file.
fn schema_of_n_inner(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "oneOf": [
        { "type": "integer", "minimum": 1, "description": "This many channels." },
        { "type": "string", "const": "4x", "description": "Four times C." },
    ] })
}

/// What the scores of attention, products of queries and keys, are multiplied by before the softmax.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionScale {
    first: f32,
    by_layer: bool,
}

impl AttentionScale {
    /// The factor in block `layer`, counted from 0.
    pub fn of(self, layer: usize) -> f32 {
        if self.by_layer { self.first / (layer + 1) as f32 } else { self.first }
    }

    /// Whether all blocks have the same.
    pub fn is_uniform(self) -> bool {
        !self.by_layer
    }
}

/// A shape of the model that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// The report's and the book's: 163M parameters, a head of its own, no qkv bias.
    Book,
    /// OpenAI's GPT-2 with 124M parameters.
    Gpt2,
    /// OpenAI's GPT-2 with 355M parameters.
    Gpt2Medium,
    /// OpenAI's GPT-2 with 774M parameters.
    Gpt2Large,
    /// OpenAI's GPT-2 with 1558M parameters.
    Gpt2Xl,
    /// 30M parameters, 14M of them with a vocabulary of 8,192: learns a book or two in half an hour.
    Small,
    /// 3.3M parameters: learns something visible in seconds.
    Tiny,
}

impl Preset {
    /// Every preset, in the order of `--help`.
    pub const ALL: [Preset; 7] = [
        Preset::Book,
        Preset::Gpt2,
        Preset::Gpt2Medium,
        Preset::Gpt2Large,
        Preset::Gpt2Xl,
        Preset::Small,
        Preset::Tiny,
    ];

    /// Its name, as people type it.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Book => "book",
            Preset::Gpt2 => "gpt2",
            Preset::Gpt2Medium => "gpt2-medium",
            Preset::Gpt2Large => "gpt2-large",
            Preset::Gpt2Xl => "gpt2-xl",
            Preset::Small => "small",
            Preset::Tiny => "tiny",
        }
    }

    /// Its shape, for GPT-2's vocabulary.
    pub fn config(self) -> ModelConfig {
        let openai = |n_embd, n_layer, n_head| ModelConfig {
            vocab_size: 50_257,
            n_positions: 1024,
            n_embd,
            n_head,
            n_layer,
            dropout: 0.1,
            qkv_bias: true,
            tied_head: true,
            init: Init::Gpt2,
            bias: true,
            n_inner: None,
            activation: Activation::GeluTanh,
            layer_norm_epsilon: 1e-5,
            scale_attn_weights: true,
            scale_attn_by_inverse_layer_idx: false,
        };
        match self {
            Preset::Book => {
                ModelConfig { qkv_bias: false, tied_head: false, init: Init::Pytorch, ..openai(768, 12, 12) }
            }
            Preset::Gpt2 => openai(768, 12, 12),
            Preset::Gpt2Medium => openai(1024, 24, 16),
            Preset::Gpt2Large => openai(1280, 36, 20),
            Preset::Gpt2Xl => openai(1600, 48, 25),
            Preset::Small => ModelConfig { n_positions: 256, ..openai(384, 6, 6) },
            Preset::Tiny => ModelConfig { n_positions: 256, dropout: 0.0, ..openai(64, 2, 4) },
        }
    }
}

impl FromStr for Preset {
    type Err = ConfigError;

    fn from_str(name: &str) -> Result<Preset, ConfigError> {
        Preset::ALL
            .into_iter()
            .find(|preset| preset.name() == name)
            .ok_or_else(|| ConfigError::UnknownPreset { name: name.to_owned() })
    }
}

/// A shape that no model can have.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ConfigError {
    /// A size is zero or beyond what any machine holds.
    #[error("model.{key} is {value}: expected {expected}")]
    Size {
        /// The key in section `[model]`.
        key: &'static str,
        /// The value in the configuration.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// The heads do not divide the width.
    #[error(
        "model.n_head is {n_head}, which does not divide model.n_embd = {n_embd}: change one so that every head gets \
         as many channels (for this width: {divisors})"
    )]
    Heads {
        /// NH of the configuration.
        n_head: usize,
        /// C of the configuration.
        n_embd: usize,
        /// Numbers of heads that would do.
        divisors: String,
    },
    /// No preset of that name.
    #[error("no preset is called '{name}': there are book, gpt2, gpt2-medium, gpt2-large, gpt2-xl, small and tiny")]
    UnknownPreset {
        /// What was asked for.
        name: String,
    },
}

impl ModelConfig {
    /// HS: channels of a head.
    ///
    /// # Panics
    /// If `n_head` is 0, which [`validate`](Self::validate) rejects.
    pub fn head_size(&self) -> usize {
        self.n_embd / self.n_head
    }

    /// Width of the MLP: 4·C unless `n_inner` says otherwise.
    pub fn inner_size(&self) -> usize {
        self.n_inner.unwrap_or_else(|| self.n_embd.saturating_mul(4))
    }

    /// Whether the projection to queries, keys and values has a bias.
    pub fn has_qkv_bias(&self) -> bool {
        self.bias && self.qkv_bias
    }

    /// What the scores of attention are multiplied by.
    ///
    /// # Panics
    /// If `n_head` is 0, which [`validate`](Self::validate) rejects.
    pub fn attention_scale(&self) -> AttentionScale {
        let first = if self.scale_attn_weights { 1.0 / (self.head_size() as f32).sqrt() } else { 1.0 };
        AttentionScale { first, by_layer: self.scale_attn_by_inverse_layer_idx }
    }

    /// This shape with every bias.
    pub(crate) fn with_biases(&self) -> ModelConfig {
        ModelConfig { bias: true, qkv_bias: true, ..self.clone() }
    }

    /// Whether a model can have this shape.
    ///
    /// # Errors
    /// Names the key, its value and what it may be.
    pub fn validate(&self) -> Result<(), ConfigError> {
        /// Keeps every product of sizes far from overflow.
        const MAX: usize = 1 << 24;
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("n_positions", self.n_positions),
            ("n_embd", self.n_embd),
            ("n_head", self.n_head),
            ("n_layer", self.n_layer),
            ("n_inner", self.n_inner.unwrap_or(1)),
        ];
        for (key, value) in sizes {
            if value == 0 || value > MAX {
                let value = value.to_string();
                return Err(ConfigError::Size { key, value, expected: "a number from 1 to 16,777,216" });
            }
        }
        if !self.n_embd.is_multiple_of(self.n_head) {
            let divisors: Vec<String> =
                (1..=self.n_embd.min(64)).filter(|d| self.n_embd.is_multiple_of(*d)).map(|d| d.to_string()).collect();
            let (n_head, n_embd) = (self.n_head, self.n_embd);
            return Err(ConfigError::Heads { n_head, n_embd, divisors: divisors.join(", ") });
        }
        if !(0.0..1.0).contains(&self.dropout) {
            let value = self.dropout.to_string();
            return Err(ConfigError::Size { key: "dropout", value, expected: "a probability, 0 ≤ dropout < 1" });
        }
        let epsilon = self.layer_norm_epsilon;
        if !(epsilon > 0.0 && epsilon < 1.0) {
            let (key, value) = ("layer_norm_epsilon", epsilon.to_string());
            return Err(ConfigError::Size {
                key,
                value,
                expected: "a small number above 0 and below 1; GPT-2's is 1e-5",
            });
        }
        Ok(())
    }

    /// Weights that every token is multiplied by: those of linear layers and of the head, not the embeddings' look-ups.
    pub fn n_multiplied_weights(&self) -> usize {
        let (c, inner) = (self.n_embd, self.inner_size());
        self.n_layer * (4 * c * c + 2 * c * inner) + self.vocab_size * c
    }

    /// Operations of one training step on a batch: 6 a token and multiplied weight (2 forward, 4 backward), and 12·L·C·T a
    /// token for attention, counted as if the mask hid nothing; a multiplication and an addition are two.
    ///
    /// J. Kaplan et al., "Scaling laws for neural language models", 2020, section 2.1.
    pub fn step_operations(&self, n_sequences: usize, n_positions: usize) -> f64 {
        let per_token = 6 * self.n_multiplied_weights() + 12 * self.n_layer * self.n_embd * n_positions;
        (n_sequences * n_positions) as f64 * per_token as f64
    }

    /// Number of parameters, a tied head counted once.
    pub fn n_parameters(&self) -> usize {
        // In 128 bits: a foreign file's sizes may multiply to more than 64 hold.
        let sizes = [self.vocab_size, self.n_positions, self.n_embd, self.n_layer, self.inner_size()];
        let [v, p, c, l, inner] = sizes.map(|n| n as u128);
        let given = |present: bool, n: u128| if present { n } else { 0 };
        // c_attn 3C², c_proj C², c_fc and c_proj C·inner, two normalisations C each; then their biases.
        let weights = 4 * c * c + 2 * c * inner + 2 * c;
        let block = weights + given(self.has_qkv_bias(), 3 * c) + given(self.bias, c + inner + c + 2 * c);
        let norm = c + given(self.bias, c);
        let head = given(!self.tied_head, v * c);
        usize::try_from(v * c + p * c + l * block + norm + head).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The section of a run that was written before these keys existed.
    const OLD: &str = "vocab_size = 10\nn_positions = 8\nn_embd = 4\nn_head = 2\nn_layer = 1\ndropout = 0.0\n\
                       qkv_bias = true\ntied_head = true\ninit = \"gpt2\"\n";

    #[test]
    fn a_run_without_the_newer_keys_has_gpt2s_settings() {
        let config: ModelConfig = toml::from_str(OLD).unwrap();
        let expected = ModelConfig { vocab_size: 10, n_positions: 8, n_embd: 4, n_head: 2, n_layer: 1, ..gpt2() };
        assert_eq!(config, expected);
        // What is written has every key.
        let written = toml::to_string(&config).unwrap();
        for line in [
            "bias = true",
            "n_inner = \"4x\"",
            "activation = \"gelu-tanh\"",
            "layer_norm_epsilon = 0.00001",
            "scale_attn_weights = true",
            "scale_attn_by_inverse_layer_idx = false",
        ] {
            assert!(written.contains(line), "{line}: {written}");
        }
        assert_eq!(toml::from_str::<ModelConfig>(&written).unwrap(), config);
    }

    fn gpt2() -> ModelConfig {
        ModelConfig { dropout: 0.0, ..Preset::Tiny.config() }
    }

    #[test]
    fn every_setting_survives_a_file_and_bad_values_are_named() {
        for (n_inner, activation) in [(None, Activation::Gelu), (Some(7), Activation::Relu)] {
            let config = ModelConfig { n_inner, activation, layer_norm_epsilon: 1e-12, bias: false, ..gpt2() };
            assert_eq!(toml::from_str::<ModelConfig>(&toml::to_string(&config).unwrap()).unwrap(), config);
            let json = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<ModelConfig>(&json).unwrap(), config);
        }
        let read = |line: &str| toml::from_str::<ModelConfig>(&format!("{OLD}{line}"));
        assert_eq!(read("activation = \"gelu_new\"").unwrap().activation, Activation::GeluTanh);
        let error = read("activation = \"silu\"").unwrap_err().to_string();
        assert!(error.contains("silu") && error.contains("relu"), "{error}");
        let error = read("n_inner = \"3x\"").unwrap_err().to_string();
        assert!(error.contains("3x") && error.contains("\"4x\""), "{error}");
        assert!(read("n_inner = -1").is_err());
    }

    #[test]
    fn the_scale_of_attention_follows_both_settings() {
        let config = ModelConfig { n_embd: 32, n_head: 2, ..gpt2() };
        let scales = |config: &ModelConfig| [0, 3].map(|layer| config.attention_scale().of(layer));
        assert_eq!(scales(&config), [0.25; 2]);
        let by_layer = ModelConfig { scale_attn_by_inverse_layer_idx: true, ..config };
        assert_eq!(scales(&by_layer), [0.25, 0.0625]);
        let unscaled = ModelConfig { scale_attn_weights: false, ..by_layer };
        assert_eq!(scales(&unscaled), [1.0, 0.25]);
    }

    #[test]
    fn presets_have_the_published_numbers_of_parameters() {
        let n = |preset: Preset| preset.config().n_parameters();
        assert_eq!(n(Preset::Book), 163_009_536);
        assert_eq!(ModelConfig { n_positions: 256, ..Preset::Book.config() }.n_parameters(), 162_419_712);
        assert_eq!(ModelConfig { tied_head: true, ..Preset::Book.config() }.n_parameters(), 124_412_160);
        assert_eq!(n(Preset::Gpt2), 124_439_808);
        assert_eq!(n(Preset::Gpt2Medium), 354_823_168);
        assert_eq!(n(Preset::Gpt2Large), 774_030_080);
        assert_eq!(n(Preset::Gpt2Xl), 1_557_611_200);
        // The report's figures: 123.6M in products, 394 GFLOP a step of 2 × 256.
        assert_eq!(Preset::Book.config().n_multiplied_weights(), 123_532_032);
        assert!((Preset::Book.config().step_operations(2, 256) / 1e9 - 394.0).abs() < 0.5);
        for preset in Preset::ALL {
            assert_eq!(preset.config().validate(), Ok(()));
            assert_eq!(preset.name().parse(), Ok(preset));
        }
    }

    #[test]
    fn impossible_shapes_are_named() {
        let with = |change: fn(&mut ModelConfig)| {
            let mut config = Preset::Tiny.config();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        let heads = with(|c| c.n_head = 7);
        assert!(heads.contains("n_head is 7") && heads.contains("n_embd = 64") && heads.contains("1, 2, 4, 8"));
        assert!(with(|c| c.n_layer = 0).contains("model.n_layer is 0"));
        assert!(with(|c| c.vocab_size = usize::MAX).contains("model.vocab_size"));
        assert!(with(|c| c.dropout = 1.0).contains("model.dropout is 1"));
        assert!(with(|c| c.dropout = f32::NAN).contains("model.dropout is NaN"));
        assert!(with(|c| c.n_inner = Some(0)).contains("model.n_inner is 0"));
        for epsilon in [0.0, -1.0, f32::NAN, 1.0] {
            let mut config = Preset::Tiny.config();
            config.layer_norm_epsilon = epsilon;
            assert!(config.validate().unwrap_err().to_string().contains("model.layer_norm_epsilon is"), "{epsilon}");
        }
        assert!("gpt3".parse::<Preset>().unwrap_err().to_string().contains("'gpt3'"));
    }
}
