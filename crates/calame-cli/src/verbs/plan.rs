//! `calame plan`: prints the memory, time and disk space that a training needs.

use anyhow::Result;
use calame::plan::MemoryKind;
use calame::train::RunConfig;

use crate::training::args::TrainArgs;
use crate::training::planned::{Planned, Timed};
use crate::training::{device, launch, space};
use crate::ui::output::{duration, grouped, print, print_json, size, steps_over};

/// Show what a training needs, without training: memory by kind, steps, time, disk space.
///
/// Takes the flags of `calame train`. To measure the machine's speed, it trains a few steps of a similar model on
/// random tokens.
#[derive(clap::Args, Debug)]
#[group(skip)]
#[command(
    allow_negative_numbers = true,
    mut_arg("tui", |arg| arg.hide(true)),
    mut_arg("overwrite", |arg| arg.hide(true)),
    after_help = "Examples:
  # the default training, of 163M parameters
  calame plan
  calame plan --preset gpt2 --data notes/ --batch-size 1 --window 512
  # the rest of a stopped run
  calame plan --resume runs/2026-11-23-book"
)]
pub struct Args {
    #[command(flatten)]
    training: TrainArgs,
}

pub fn run(args: &Args) -> Result<()> {
    let (dev, ready) = launch::ready(&args.training, launch::Purpose::Planning)?;
    let planned = Planned::of(&dev, &ready);
    let timed = if planned.fits() { Some(planned.rehearse(&ready.config)?) } else { None };
    if args.training.json {
        return print_json(&planned.as_json(timed.as_ref()));
    }
    let device = device::describe(&ready.config.device);
    let description = &ready.prepared.description;
    let text = format!(
        "model       {}: {} parameters, {device}\ntext        {description}\n\n{}\n{}",
        ready.config.preset,
        grouped(planned.plan.n_parameters as u64),
        memory_table(&planned),
        schedule_text(&planned, &ready.config, timed.as_ref())
    );
    print(&text)?;
    planned.check(&ready.config)?;
    space::check(ready.target.path(), &planned.plan.disk)
}

fn memory_table(planned: &Planned) -> String {
    let mut text = "memory\n".to_owned();
    for (kind, bytes) in planned.plan.memory.iter().filter(|(_, bytes)| *bytes > 0) {
        text += &format!("  {:11} {:>9}   {}\n", kind.name(), size(*bytes), meaning(*kind));
    }
    let free = planned.available_bytes.map_or(String::new(), |free| format!("   of {} free", size(free)));
    text + &format!("  {:11} {:>9}{free}\n", "total", size(planned.plan.memory_bytes()))
}

fn meaning(kind: MemoryKind) -> &'static str {
    match kind {
        MemoryKind::Weights => "the model",
        MemoryKind::Gradients => "one block's, shared by all blocks unless gradients are clipped or accumulated",
        MemoryKind::Moments => "of AdamW, two per parameter",
        MemoryKind::Activations => "saved by forward for backward",
        MemoryKind::Evaluation => "activations of one block",
        MemoryKind::Scratch => "scratch memory of forward and backward",
        MemoryKind::Logits => "of half a batch, and losses",
        MemoryKind::WorkSpace => "packed matrices, attention",
        MemoryKind::Masks => "dropout masks drawn as by PyTorch",
        MemoryKind::Text => "token ids, and the order of the windows",
        MemoryKind::Sample => "keys and values while a sample is written",
        MemoryKind::Copy => "of the state, from which checkpoints are written",
        MemoryKind::Program => "the program itself and its tokenizer",
    }
}

/// The lines on steps, operations, disk space and time.
fn schedule_text(planned: &Planned, config: &RunConfig, timed: Option<&Timed>) -> String {
    let plan = &planned.plan;
    let left = plan.n_steps.saturating_sub(plan.n_steps_done);
    let done =
        if plan.n_steps_done > 0 { format!(", {} of them done", grouped(plan.n_steps_done)) } else { String::new() };
    let epochs = config.train.epochs;
    let mut text = format!(
        "steps       {} per epoch, {}{done}, {} tokens per step\n\
         tokens      {} per epoch, {} total\n\
         operations  {} per step, {} total\n\
         disk        {} for the model, {} for checkpoints until the end{}, {} for records and plots\n",
        grouped(plan.steps_per_epoch),
        steps_over(plan.n_steps, plan.steps_per_epoch, epochs),
        grouped(plan.tokens_per_step),
        grouped(plan.tokens_per_epoch),
        grouped(plan.tokens_per_epoch.saturating_mul(epochs).min(plan.tokens_per_step.saturating_mul(plan.n_steps))),
        operations(plan.step_operations),
        operations(plan.step_operations * left as f64),
        size(plan.disk.model),
        size(plan.disk.checkpoints),
        if plan.disk.last_state > 0 { format!(" ({} after it)", size(plan.disk.last_state)) } else { String::new() },
        size(plan.disk.records + plan.disk.plot),
    );
    if let Some(Timed { seconds, share_of_peak, rehearsal }) = timed {
        let pace = &rehearsal.pace;
        text += &format!(
            "time        about {}: {} steps of {}, {} evaluations of {}, {} samples of {}\n\
             speed       {:.0} tokens/s, {share_of_peak:.2} of the machine's peak of {:.0} GFLOP/s\n",
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
    match seconds {
        s if s < 0.1 => format!("{:.1} ms", 1e3 * s),
        s if s < 10.0 => format!("{:.0} ms", 1e3 * s),
        s => format!("{s:.1} s"),
    }
}

fn operations(n: f64) -> String {
    let (unit, letter) = match n {
        n if n < 1e12 => (1e9, "G"),
        n if n < 1e15 => (1e12, "T"),
        _ => (1e15, "P"),
    };
    format!("{:.1} {letter}FLOP", n / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_their_unit() {
        assert_eq!(operations(3.94e11), "394.0 GFLOP");
        assert_eq!(operations(2.5e13), "25.0 TFLOP");
        assert_eq!([0.0123, 0.5, 20.784].map(milliseconds), ["12.3 ms", "500 ms", "20.8 s"]);
    }
}
