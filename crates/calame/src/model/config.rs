//! The shape of a model, and the shapes that have a name.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// Whether the projection to queries, keys and values has a bias.
    pub qkv_bias: bool,
    /// Whether the head is the token embedding.
    pub tied_head: bool,
    /// How fresh weights are drawn.
    pub init: Init,
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
        Ok(())
    }

    /// Weights that every token is multiplied by: those of linear layers and of the head, not the embeddings' look-ups.
    pub fn n_multiplied_weights(&self) -> usize {
        let c = self.n_embd;
        self.n_layer * 12 * c * c + self.vocab_size * c
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
        let [v, p, c, l] = [self.vocab_size, self.n_positions, self.n_embd, self.n_layer].map(|n| n as u128);
        let qkv_bias = if self.qkv_bias { 3 * c } else { 0 };
        // c_attn 3C², c_proj C² + C, c_fc 4C² + 4C, c_proj 4C² + C, two normalisations 2C each.
        let block = 12 * c * c + 10 * c + qkv_bias;
        let head = if self.tied_head { 0 } else { v * c };
        usize::try_from(v * c + p * c + l * block + 2 * c + head).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!("gpt3".parse::<Preset>().unwrap_err().to_string().contains("'gpt3'"));
    }
}
