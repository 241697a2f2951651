//! The training flags, shared by `calame train` and `calame plan`.

use std::path::PathBuf;

use clap::builder::TypedValueParser;

use super::device;

/// The flags that configure a training.
#[derive(clap::Args, Debug)]
#[command(allow_negative_numbers = true)]
pub struct TrainArgs {
    /// Text: a file, a folder (its .txt and .md), a glob or a name (the-verdict, builtin); may be repeated
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

    /// Resume a run that was stopped
    #[arg(long, value_name = "RUN", conflicts_with_all = ["data", "preset", "run", "overwrite", "config", "epochs", "batch_size",
          "window", "stride", "lr", "seed", "rng", "recipe", "loss_average", "init_from", "set", "device", "precision"])]
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
    #[arg(long, value_name = "RATE")]
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

    /// Any other setting, such as --set model.dropout=0.2; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,

    #[command(flatten)]
    pub device: device::Args,

    /// Show a dashboard: curves, speed, memory, the latest sample; q stops and saves
    #[arg(long, conflicts_with = "json")]
    pub tui: bool,

    /// Print JSON lines for programs
    #[arg(long)]
    pub json: bool,
}

/// Parses an unsigned integer that TOML can store: at most `i64::MAX`.
fn toml_integer() -> impl TypedValueParser<Value = u64> {
    clap::value_parser!(u64).range(..=i64::MAX as u64)
}
