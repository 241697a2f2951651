//! The training flags, shared by `calame train` and `calame plan`.

use std::path::PathBuf;

use clap::builder::TypedValueParser;
use toml::Value;

use super::reading::ReadingArgs;
use super::settings::RequestedSettings;
use super::{device, model, runs};

/// The flags that configure a training.
#[derive(clap::Args, Debug)]
#[command(allow_negative_numbers = true)]
pub struct TrainArgs {
    /// Text: a file (.txt, .md, .jsonl, also compressed; .parquet), a folder, a glob or a name (the-verdict, builtin); may
    /// be repeated
    #[arg(long, value_name = "INPUT", num_args = 1..)]
    pub data: Vec<String>,

    /// Shape of the model: book, gpt2, gpt2-medium, gpt2-large, gpt2-xl, small or tiny [default: book]
    #[arg(long, value_name = "NAME", conflicts_with = "init_from")]
    pub preset: Option<String>,

    /// Folder of the run [default: runs/<date>-<preset>]
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,

    /// Replace an existing run in --run DIR
    #[arg(long, requires = "run")]
    pub overwrite: bool,

    /// Resume a run that was stopped, or train a finished one further with more --epochs; --set changes settings, --data
    /// gives the new path of a text that was moved. A run is given by its folder or its name under runs/
    #[arg(long, value_name = "RUN", value_parser = runs::run_parser(), conflicts_with_all = ["preset", "run", "overwrite",
          "config", "batch_size", "window", "stride", "seed", "rng", "recipe", "loss_average", "init_from", "n_head", "device",
          "precision", "field", "column", "read_as", "special_tokens", "strip_gutenberg", "normalise", "dedup"])]
    pub resume: Option<PathBuf>,

    /// TOML file of settings: any keys of a run's config.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Passes over the text [default: 10]
    #[arg(long, value_name = "N", value_parser = toml_integer())]
    pub epochs: Option<u64>,

    /// Windows per batch [default: 4]
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,

    /// Tokens per window [default: 256; tiny: 64]
    #[arg(long, value_name = "N")]
    pub window: Option<usize>,

    /// Tokens from the start of one window to the start of the next [default: 128; tiny: 16]
    #[arg(long, value_name = "N")]
    pub stride: Option<usize>,

    /// Learning rate [default: 4e-4; small: 1e-3; tiny: 3e-3]
    #[arg(long, alias = "learning-rate", value_name = "RATE")]
    pub lr: Option<f64>,

    /// Seed of the initial weights, the order of batches and dropout [default: 123]
    #[arg(long, value_name = "N", value_parser = toml_integer())]
    pub seed: Option<u64>,

    /// Random number generator: calame, or torch, which draws the numbers that a PyTorch script draws on a CPU
    /// [default: calame]
    #[arg(long, value_name = "GENERATOR")]
    pub rng: Option<String>,

    /// Set of default settings: book (the usual ones), small-data (stops when the validation loss no longer improves) or
    /// long (warm-up, cosine decay, gradient clipping) [default: book]
    #[arg(long, value_name = "NAME")]
    pub recipe: Option<String>,

    /// How a step's loss is averaged: token (over its tokens) or book (over the means of its batches) [default: token]
    #[arg(long, value_name = "WHAT")]
    pub loss_average: Option<String>,

    /// Start from the weights and the tokenizer of this model
    #[arg(long, value_name = "MODEL")]
    pub init_from: Option<PathBuf>,

    #[command(flatten)]
    pub known: model::Args,

    /// Any other setting, such as --set model.dropout=0.2; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,

    #[command(flatten)]
    pub reading: ReadingArgs,

    #[command(flatten)]
    pub device: device::Args,

    /// Show a dashboard: curves, speed, memory, the latest sample; q stops and saves
    #[arg(long, conflicts_with = "json")]
    pub tui: bool,

    /// Print JSON lines for programs
    #[arg(long)]
    pub json: bool,
}

impl TrainArgs {
    /// The settings that the flags give.
    pub fn requested(&self) -> RequestedSettings {
        let mut flags: Vec<(&'static str, Value)> = Vec::new();
        // A size that TOML cannot hold becomes the largest one, which validation refuses as well.
        let size = |n: usize| Value::Integer(i64::try_from(n).unwrap_or(i64::MAX));
        let text = |s: &String| Value::String(s.clone());
        if !self.data.is_empty() {
            flags.push(("data.inputs", Value::Array(self.data.iter().map(text).collect())));
        }
        flags.extend(self.reading.settings());
        flags.extend(self.preset.as_ref().map(|s| ("preset", text(s))));
        flags.extend(self.recipe.as_ref().map(|s| ("recipe", text(s))));
        flags.extend(self.loss_average.as_ref().map(|s| ("train.loss_average", text(s))));
        flags.extend(self.init_from.as_ref().map(|p| ("init_from", Value::String(p.display().to_string()))));
        flags.extend(self.epochs.map(|n| ("train.epochs", Value::Integer(n as i64))));
        flags.extend(self.lr.map(|x| ("train.lr", Value::Float(x))));
        flags.extend(self.seed.map(|n| ("train.seed", Value::Integer(n as i64))));
        flags.extend(self.rng.as_ref().map(|s| ("train.rng", text(s))));
        flags.extend(self.batch_size.map(|n| ("data.batch_size", size(n))));
        flags.extend(self.window.map(|n| ("data.window", size(n))));
        flags.extend(self.stride.map(|n| ("data.stride", size(n))));
        flags.extend(self.device.device.as_ref().map(|s| ("device.device", text(s))));
        flags.extend(self.device.precision.as_ref().map(|s| ("device.precision", text(s))));
        flags.extend(self.device.threads.map(|n| ("device.threads", size(n))));
        RequestedSettings { config_file: self.config.clone(), flags, set: self.set.clone() }
    }
}

/// Parses an unsigned integer that TOML can store: at most `i64::MAX`.
fn toml_integer() -> impl TypedValueParser<Value = u64> {
    clap::value_parser!(u64).range(..=i64::MAX as u64)
}
