//! `calame bench`: what this machine can do, and how much of it a training step uses.

mod machine;
mod products;
mod step;

pub use machine::Peak;

use anyhow::Result;
use calame::model::{ModelConfig, Preset};
use calame::ops::Precision;
use clap::Subcommand;

use crate::training::device;
use crate::ui::output::UsageError;

/// Measure this machine's peaks, and how much of them training reaches.
///
/// The peaks are those of a loop that only multiplies in registers, or only goes through memory, measured in the same run
/// as what they are compared with: on a shared machine they move from minute to minute.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  calame bench machine
  calame bench train                                     the report's step, 163M parameters
  calame bench train --preset gpt2 --window 1024 --dropout 0
  calame bench train --preset book --batch-size 2 --window 256 --precision bf16 --json
  calame bench products --precision f32                  the step's matrix products, each by itself")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Peaks of this machine: multiplication in f32 and bf16, memory
    Machine(MachineArgs),
    /// A training step of a preset, phase by phase
    Train(StepArgs),
    /// The matrix products of a training step, each by itself
    Products(StepArgs),
}

#[derive(clap::Args, Debug)]
struct MachineArgs {
    #[command(flatten)]
    device: device::Args,

    /// Print one JSON object for programs
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Debug)]
struct StepArgs {
    /// Shape of the model: book, gpt2, gpt2-medium, gpt2-large, gpt2-xl, small or tiny
    #[arg(long, value_name = "NAME", default_value = "book")]
    preset: String,

    /// Windows of a step
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch_size: u32,

    /// Tokens of a window [default: 256, or the model's context where that is less]
    #[arg(long, value_name = "N")]
    window: Option<usize>,

    /// Probability of dropping an element [default: the preset's]; products have none
    #[arg(long, value_name = "P")]
    dropout: Option<f32>,

    /// Rounds to time, after those that only touch memory
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=1000))]
    steps: u32,

    #[command(flatten)]
    device: device::Args,

    /// Print one JSON object for programs
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    match args.what {
        What::Machine(args) => machine::run(&args),
        What::Train(args) => step::run(&args),
        What::Products(args) => products::run(&args),
    }
}

impl StepArgs {
    /// The model's shape and the window.
    fn shape(&self) -> Result<(ModelConfig, usize)> {
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

/// The middle one; of an even number the mean of the two.
pub fn median(mut x: Vec<f64>) -> f64 {
    x.sort_by(f64::total_cmp);
    let n = x.len();
    if n % 2 == 1 { x[n / 2] } else { (x[n / 2 - 1] + x[n / 2]) / 2.0 }
}

/// What multiplies as `precision` on this machine.
fn multiplied_as(isa: calame::ops::Isa, precision: Precision) -> &'static str {
    match precision {
        Precision::Bf16 if Precision::fastest(isa) != Precision::Bf16 => "rounded to bf16, multiplied as f32",
        Precision::Bf16 => "multiplied natively",
        Precision::F32 => "",
    }
}
