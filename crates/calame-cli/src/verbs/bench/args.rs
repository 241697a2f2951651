//! The flags of `calame bench` and its subcommands.

use std::path::PathBuf;

use anyhow::Result;
use calame::model::{ModelConfig, Preset};
use calame::tensor::NumberFormat;

use crate::training::device;
use crate::ui::output::UsageError;
use crate::ui::spelling;

#[derive(clap::Args, Debug)]
pub struct MachineArgs {
    #[command(flatten)]
    pub device: device::Args,

    /// Print one JSON object for programs
    #[arg(long)]
    pub json: bool,
}

#[derive(clap::Args, Debug)]
pub struct InferenceArgs {
    /// Shape of a model with random weights: gpt2, gpt2-medium, gpt2-large, gpt2-xl, book, small or tiny
    #[arg(long, value_name = "NAME", default_value = "gpt2", conflicts_with = "model")]
    pub preset: String,

    /// A model to measure instead: a run, a folder, a file of weights, or a name on the model hub
    #[arg(long, value_name = "MODEL")]
    pub model: Option<PathBuf>,

    /// Number format of the preset's matrices: f32, f16, bf16, or one of GGUF's, such as q8_0 or q4_k
    #[arg(long, value_name = "FORMAT", default_value = "f32", value_parser = spelling::number_format, conflicts_with = "model")]
    pub r#type: NumberFormat,

    /// Tokens of the prompt [default: 32; 512 for prompt]
    #[arg(long, value_name = "N")]
    pub prompt: Option<usize>,

    /// Tokens to generate for each sequence
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub tokens: usize,

    /// Sequences that are generated at once, by batch
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub sequences: u32,

    /// Number of timed rounds
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,

    #[command(flatten)]
    pub device: device::Args,

    /// Print one JSON object for programs
    #[arg(long)]
    pub json: bool,
}

#[derive(clap::Args, Debug)]
pub struct StepArgs {
    /// Shape of the model: book, gpt2, gpt2-medium, gpt2-large, gpt2-xl, small or tiny
    #[arg(long, value_name = "NAME", default_value = "book")]
    pub preset: String,

    /// Number of windows per step
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch_size: u32,

    /// Tokens per window [default: 256, or the model's context if that is less]
    #[arg(long, value_name = "N")]
    pub window: Option<usize>,

    /// Dropout probability [default: that of the preset]; ignored by products
    #[arg(long, value_name = "P")]
    pub dropout: Option<f32>,

    /// Number of timed rounds, after those that warm up
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub steps: u32,

    #[command(flatten)]
    pub device: device::Args,

    /// Print one JSON object for programs
    #[arg(long)]
    pub json: bool,
}

impl StepArgs {
    /// The shape of the model, and the tokens per window.
    ///
    /// # Errors
    /// If the preset is unknown, or dropout or window is out of range.
    pub fn shape(&self) -> Result<(ModelConfig, usize)> {
        let preset: Preset = self.preset.parse().map_err(UsageError::from)?;
        let mut model = preset.config();
        model.dropout = self.dropout.unwrap_or(model.dropout);
        model.validate().map_err(UsageError::from)?;
        let window = self.window.unwrap_or(model.n_positions.min(256));
        if window == 0 || window > model.n_positions {
            let message = format!("--window is {window}: it may be 1 to {}, the model's context", model.n_positions);
            return Err(UsageError(message).into());
        }
        Ok((model, window))
    }
}
