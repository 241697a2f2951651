//! `calame plan`: what a training will take, without training.

use anyhow::Result;
use calame::train::RunConfig;
use calame::train::plan::MemoryKind;
use serde_json::json;

use crate::training::args::TrainArgs;
use crate::training::planned::{Planned, Timed};
use crate::training::{device, launch, space};
use crate::ui::output::{duration, gigabytes, grouped, print, print_json};

/// Show what a training will take, without training: memory by kind, steps, time, disk.
///
/// Takes the flags of `calame train`, and trains a few steps of a like model on random tokens to know how fast the machine is.
#[derive(clap::Args, Debug)]
#[group(skip)]
#[command(
    allow_negative_numbers = true,
    mut_arg("tui", |arg| arg.hide(true)),
    mut_arg("overwrite", |arg| arg.hide(true)),
    after_help = "Examples:
  calame plan                                     the report's training
  calame plan --preset gpt2 --data notes/ --batch-size 1 --window 512
  calame plan --resume runs/2026-11-23-book       what is left of a stopped run"
)]
pub struct Args {
    #[command(flatten)]
    training: TrainArgs,
}

pub fn run(args: &Args) -> Result<()> {
    let (dev, ready) = launch::ready(&args.training)?;
    let planned = Planned::of(&dev, &ready);
    let timed = if planned.fits() { Some(planned.rehearse(&ready.config)?) } else { None };
    if args.training.json {
        return print_json(&as_json(&planned, timed.as_ref()));
    }
    let device = device::describe(&ready.config.device);
    let description = &ready.prepared.description;
    let text = format!(
        "model       {}: {} parameters, {device}\ntext        {description}\n\n{}\n{}",
        ready.config.preset,
        grouped(planned.plan.n_parameters as u64),
        memory_table(&planned),
        course(&planned, &ready.config, timed.as_ref())
    );
    print(&text)?;
    planned.check(&ready.config)?;
    space::check(ready.place.path(), &planned.plan.disk)
}

fn memory_table(planned: &Planned) -> String {
    let megabytes = |bytes: u64| format!("{:9.1}", bytes as f64 / 1e6);
    let mut text = format!("{:13} {:>9}\n", "memory", "MB");
    for (kind, bytes) in planned.plan.memory.iter().filter(|(_, bytes)| *bytes > 0) {
        text += &format!("  {:11} {}   {}\n", kind.name(), megabytes(*bytes), meaning(*kind));
    }
    let free =
        planned.available_bytes.map_or(String::new(), |free| format!("   of {:.1} that are free", free as f64 / 1e6));
    text + &format!("  {:11} {}{free}\n", "in all", megabytes(planned.plan.memory_bytes()))
}

fn meaning(kind: MemoryKind) -> &'static str {
    match kind {
        MemoryKind::Weights => "the model",
        MemoryKind::Gradients => "blocks take turns at one block's, unless they are clipped or summed up",
        MemoryKind::Moments => "two of AdamW for each parameter",
        MemoryKind::Activations => "what forward keeps for backward",
        MemoryKind::Evaluation => "the same of one block",
        MemoryKind::Scratch => "work space of forward and backward",
        MemoryKind::Logits => "of half the batch, and losses",
        MemoryKind::WorkSpace => "packed matrices, attention",
        MemoryKind::Masks => "dropout, as PyTorch draws it",
        MemoryKind::Text => "tokens, and the order of their windows",
        MemoryKind::Sample => "keys and values while it is written",
        MemoryKind::Copy => "what checkpoints are written from",
        MemoryKind::Program => "itself and its tokenizer",
    }
}

/// Steps, operations, disk and time.
fn course(planned: &Planned, config: &RunConfig, timed: Option<&Timed>) -> String {
    let plan = &planned.plan;
    let left = plan.n_steps.saturating_sub(plan.n_steps_done);
    let done =
        if plan.n_steps_done > 0 { format!(", {} of them done", grouped(plan.n_steps_done)) } else { String::new() };
    let epochs = config.train.epochs;
    let mut text = format!(
        "steps       {} an epoch, {} in all over {epochs} epoch{}{done}, {} tokens each\n\
         tokens      {} an epoch, {} in all\n\
         operations  {} a step, {} in all\n\
         disk        {} for the model, {} while checkpoints are kept, {} of records and plots\n",
        grouped(plan.steps_per_epoch),
        grouped(plan.n_steps),
        if epochs == 1 { "" } else { "s" },
        grouped(plan.tokens_per_step),
        grouped(plan.tokens_per_epoch),
        grouped(plan.tokens_per_epoch.saturating_mul(epochs)),
        operations(plan.step_operations),
        operations(plan.step_operations * left as f64),
        gigabytes(plan.disk.model),
        gigabytes(plan.disk.checkpoints),
        gigabytes(plan.disk.records + plan.disk.plot),
    );
    if let Some(Timed { seconds, share_of_peak, rehearsal }) = timed {
        let pace = &rehearsal.pace;
        text += &format!(
            "time        about {}: {} steps of {}, {} evaluations of {}, {} samples of {}\n\
             speed       {:.0} tokens/s, {share_of_peak:.2} of the {:.0} GFLOP/s that the machine does in registers\n",
            duration(*seconds),
            grouped(left),
            milliseconds(pace.step_seconds),
            grouped(plan.n_evaluations),
            milliseconds(pace.evaluation_seconds),
            grouped(plan.n_samples),
            milliseconds(pace.sample_seconds),
            plan.tokens_per_step as f64 / pace.step_seconds,
            rehearsal.peak / 1e9
        );
    }
    text
}

fn milliseconds(seconds: f64) -> String {
    if seconds < 0.1 { format!("{:.1} ms", 1e3 * seconds) } else { format!("{:.0} ms", 1e3 * seconds) }
}

fn operations(n: f64) -> String {
    let (unit, letter) = match n {
        n if n < 1e12 => (1e9, "G"),
        n if n < 1e15 => (1e12, "T"),
        _ => (1e15, "P"),
    };
    format!("{:.1} {letter}FLOP", n / unit)
}

fn as_json(planned: &Planned, timed: Option<&Timed>) -> serde_json::Value {
    let plan = &planned.plan;
    let memory: serde_json::Map<String, serde_json::Value> =
        plan.memory.iter().map(|(kind, bytes)| (kind.name().replace(' ', "_"), (*bytes).into())).collect();
    json!({
        "n_parameters": plan.n_parameters,
        "memory": memory, "memory_bytes": plan.memory_bytes(), "available_bytes": planned.available_bytes,
        "fits": planned.fits(),
        "steps_per_epoch": plan.steps_per_epoch, "n_steps": plan.n_steps, "n_steps_done": plan.n_steps_done,
        "tokens_per_step": plan.tokens_per_step, "tokens_per_epoch": plan.tokens_per_epoch,
        "n_evaluations": plan.n_evaluations, "n_samples": plan.n_samples, "step_operations": plan.step_operations,
        "disk": { "model": plan.disk.model, "checkpoints": plan.disk.checkpoints, "records": plan.disk.records,
            "plot": plan.disk.plot },
        "seconds": timed.map(|t| t.seconds), "share_of_peak": timed.map(|t| t.share_of_peak),
        "peak_operations_per_second": timed.map(|t| t.rehearsal.peak),
        "step_seconds": timed.map(|t| t.rehearsal.pace.step_seconds),
        "evaluation_seconds": timed.map(|t| t.rehearsal.pace.evaluation_seconds),
        "sample_seconds": timed.map(|t| t.rehearsal.pace.sample_seconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_their_unit() {
        assert_eq!(operations(3.94e11), "394.0 GFLOP");
        assert_eq!(operations(2.5e13), "25.0 TFLOP");
        assert_eq!(milliseconds(0.0123), "12.3 ms");
    }
}
