//! `calame bench`: measures the machine's peaks and the share of them that training and inference reach.

mod args;
mod inference;
mod machine;
mod products;
mod step;

use anyhow::Result;
use clap::Subcommand;

use args::{InferenceArgs, MachineArgs, StepArgs};

/// Measure this machine's peaks, and the share of them that training and inference reach.
///
/// A peak is the rate of a loop that only multiplies in registers, or only streams through memory. It is measured in
/// the same run as the figures compared with it, because on a shared machine it changes from minute to minute.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  calame bench machine
  # a step of the default training, of 163M parameters
  calame bench train
  calame bench train --preset gpt2 --window 1024 --dropout 0
  calame bench train --batch-size 2 --precision bf16 --json
  # the matrix products of a step, separately
  calame bench products --precision f32
  # inference: one token after another, a prompt, sixteen sequences at once
  calame bench decode --preset gpt2 --type bf16
  calame bench prompt --model gpt2.gguf
  calame bench batch --sequences 16")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Measure the peaks of this machine: multiplication in f32 and bf16, memory
    Machine(MachineArgs),
    /// Measure a training step of a preset by phase
    Train(StepArgs),
    /// Measure each matrix product of a training step separately
    Products(StepArgs),
    /// Measure the generation of one token after another, and its share of the memory's bandwidth
    Decode(InferenceArgs),
    /// Measure the processing of a prompt, and its share of the processor's peak
    Prompt(InferenceArgs),
    /// Measure the generation of several sequences at once
    Batch(InferenceArgs),
}

pub fn run(args: Args) -> Result<()> {
    match args.what {
        What::Machine(args) => machine::run(&args),
        What::Train(args) => step::run(&args),
        What::Products(args) => products::run(&args),
        What::Decode(args) => inference::decode(&args),
        What::Prompt(args) => inference::prompt(&args),
        What::Batch(args) => inference::batch(&args),
    }
}
