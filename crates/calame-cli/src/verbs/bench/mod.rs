//! `calame bench`: what this machine can do, and how much of it a training step uses.

mod args;
mod machine;
mod products;
mod step;

use anyhow::Result;
use clap::Subcommand;

use args::{MachineArgs, StepArgs};

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

pub fn run(args: Args) -> Result<()> {
    match args.what {
        What::Machine(args) => machine::run(&args),
        What::Train(args) => step::run(&args),
        What::Products(args) => products::run(&args),
    }
}
