//! `calame plan`, and the line of it that a training begins with.

use anyhow::Result;
use calame::model::Preset;
use calame::ops::Device;
use calame::train::RunConfig;
use calame::train::plan::{Machine, MemoryKind, Plan, TextSize};
use serde_json::json;

use crate::launch::{self, Place, Ready};
use crate::output::{WithHint, duration, grouped, note, print, print_json};
use crate::rehearsal::{Rehearsal, estimate, rehearse};
use crate::train::{self, describe_device};
use crate::{memory, space};

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
    train: train::Args,
}

/// A plan, and what the machine has for it.
pub struct Planned {
    pub plan: Plan,
    text: TextSize,
    machine: Machine,
    available_bytes: Option<u64>,
}

impl Planned {
    /// The plan of a run that is ready; memory for it is not taken yet, but for a model that was read.
    pub fn of(dev: &Device, ready: &Ready) -> Planned {
        let mut held = memory::held_bytes().unwrap_or(0);
        if ready.gpt.is_some() && matches!(ready.place, Place::New(_)) {
            held = held.saturating_sub(4 * ready.config.model.n_parameters() as u64);
        }
        let text = ready.prepared.size.clone();
        let machine = Machine {
            isa: dev.isa(),
            precision: dev.precision(),
            n_threads: dev.n_threads(),
            program_bytes: held.saturating_sub(4 * text.n_in_memory()),
        };
        let plan = Plan::of(&ready.config, &text, &machine, n_steps_done(&ready.place));
        // What the program holds is in the plan too.
        let available_bytes = memory::available_bytes().map(|free| free.saturating_add(held));
        Planned { plan, text, machine, available_bytes }
    }

    /// Measures how long it takes, in a second or two.
    pub fn rehearse(&self, config: &RunConfig) -> Result<Timed> {
        Ok(self.timed(rehearse(config, &self.text, &self.machine)?))
    }

    /// About how long it takes, without holding up a long training's first step.
    pub fn estimate(&self, config: &RunConfig) -> Result<Timed> {
        Ok(self.timed(estimate(config, &self.text, &self.machine, &self.plan)?))
    }

    fn timed(&self, rehearsal: Rehearsal) -> Timed {
        let share_of_peak = self.plan.step_operations / rehearsal.pace.step_seconds / rehearsal.peak;
        Timed { seconds: self.plan.seconds(&rehearsal.pace), share_of_peak, rehearsal }
    }

    /// Whether the machine's memory suffices; where the system does not tell, it does.
    fn fits(&self) -> bool {
        self.available_bytes.is_none_or(|available| self.plan.memory_bytes() <= available)
    }

    /// An error, with what to change, if memory does not suffice; a warning where it hardly does.
    pub fn check(&self, config: &RunConfig) -> Result<()> {
        let (Some(available), needed) = (self.available_bytes, self.plan.memory_bytes()) else { return Ok(()) };
        let message = format!("the training needs {} of memory, {} are free", gigabytes(needed), gigabytes(available));
        if needed > available {
            return Err(WithHint::new(message, self.remedy(config, available)).into());
        }
        if needed > available / 10 * 9 {
            note(&format!("warning: {message}: another program that grows would end it"));
        }
        Ok(())
    }

    /// What would fit: fewer windows a step, shorter ones, a smaller model.
    fn remedy(&self, config: &RunConfig, available: u64) -> String {
        let fits = |config: &RunConfig| Plan::of(config, &self.text, &self.machine, 0).memory_bytes() <= available;
        let mut smaller = config.clone();
        while smaller.data.batch_size > 1 {
            smaller.data.batch_size /= 2;
            smaller.data.eval_batch_size = smaller.data.eval_batch_size.min(smaller.data.batch_size);
            if fits(&smaller) {
                return format!("--batch-size {} would fit", smaller.data.batch_size);
            }
        }
        while smaller.data.window > 64 {
            smaller.data.window /= 2;
            if fits(&smaller) {
                return format!("--batch-size 1 --window {} would fit", smaller.data.window);
            }
        }
        let presets = [Preset::Gpt2Large, Preset::Gpt2Medium, Preset::Book, Preset::Gpt2, Preset::Small, Preset::Tiny];
        let fitting = presets.into_iter().find(|preset| {
            let model = preset.config();
            model.n_parameters() < config.model.n_parameters() && fits(&RunConfig { model, ..smaller.clone() })
        });
        match fitting {
            Some(preset) => format!("a smaller model would fit: --preset {}", preset.name()),
            None => "free some memory: no smaller training of this kind would fit".to_owned(),
        }
    }

    /// The plan in a line, for the beginning of a training.
    pub fn line(&self, timed: &Timed) -> String {
        let free = self.available_bytes.map_or(String::new(), |free| format!(" of {} free", gigabytes(free)));
        format!(
            "plan   {} of memory{free}, {} on the disk, about {} ({:.2} of the peak)",
            gigabytes(self.plan.memory_bytes()),
            gigabytes(self.plan.disk.total()),
            duration(timed.seconds),
            timed.share_of_peak
        )
    }
}

/// How long a plan takes.
pub struct Timed {
    pub seconds: f64,
    /// Of the operations that the machine does in registers, those that a step reaches.
    pub share_of_peak: f64,
    pub rehearsal: Rehearsal,
}

/// A checkpoint's folder says after which step it was written.
fn n_steps_done(place: &Place) -> u64 {
    match place {
        Place::New(_) => 0,
        Place::Stopped(_, checkpoint) => {
            let name = checkpoint.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.rsplit('-').next().and_then(|step| step.parse().ok()).unwrap_or(0)
        }
    }
}

fn gigabytes(bytes: u64) -> String {
    match bytes {
        0..10_000_000_000 => format!("{:.2} GB", bytes as f64 / 1e9),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

pub fn run(args: &Args) -> Result<()> {
    let (dev, ready) = launch::ready(&args.train)?;
    let planned = Planned::of(&dev, &ready);
    let timed = if planned.fits() { Some(planned.rehearse(&ready.config)?) } else { None };
    if args.train.json {
        return print_json(&as_json(&planned, timed.as_ref()));
    }
    let device = describe_device(&ready.config.device);
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
    use calame::ops::{Isa, Precision};
    use calame::train::RunFolder;

    fn planned(config: &RunConfig, available_bytes: u64) -> Planned {
        let text =
            TextSize { n_train_tokens: 100_000, n_windows: 700, n_validation_windows: 70, ..TextSize::default() };
        let machine = Machine { isa: Isa::Portable, precision: Precision::F32, n_threads: 2, program_bytes: 0 };
        let plan = Plan::of(config, &text, &machine, 0);
        Planned { plan, text, machine, available_bytes: Some(available_bytes) }
    }

    fn refusal(preset: Preset, batch_size: usize, available_bytes: u64) -> String {
        let mut config = RunConfig::of_preset(preset);
        config.data.batch_size = batch_size;
        config.data = config.data.resolved();
        let planned = planned(&config, available_bytes);
        assert!(!planned.fits() && planned.check(&config).is_err());
        planned.remedy(&config, available_bytes)
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_would() {
        assert_eq!(refusal(Preset::Book, 64, 4_000_000_000), "--batch-size 16 would fit");
        assert!(refusal(Preset::Book, 4, 1_500_000_000).contains("--preset small"));
        assert!(refusal(Preset::Gpt2Xl, 4, 8_000_000_000).contains("smaller model would fit: --preset gpt2-medium"));
        assert!(refusal(Preset::Tiny, 4, 1_000_000).starts_with("free some memory"));
        let config = RunConfig::of_preset(Preset::Book);
        assert!(planned(&config, 1 << 40).check(&config).is_ok());
    }

    #[test]
    fn figures_have_their_unit() {
        assert_eq!(operations(3.94e11), "394.0 GFLOP");
        assert_eq!(operations(2.5e13), "25.0 TFLOP");
        assert_eq!(gigabytes(2_850_000_000), "2.85 GB");
        assert_eq!(gigabytes(21_300_000_000), "21.3 GB");
        assert_eq!(milliseconds(0.0123), "12.3 ms");
    }

    #[test]
    fn a_checkpoints_name_tells_its_step() {
        let folder = tempfile::tempdir().unwrap();
        let config = RunConfig::of_preset(Preset::Tiny);
        let run = RunFolder::create(&folder.path().join("run-7"), &config, "{}", false).unwrap();
        for (name, n_steps) in [("step-000000", 0), ("step-000123", 123), ("step-1000000", 1_000_000)] {
            let stopped = Place::Stopped(run.clone(), run.checkpoints().join(name));
            assert_eq!(n_steps_done(&stopped), n_steps, "{name}");
        }
        // A new run has none, whatever its folder is called.
        assert_eq!(n_steps_done(&Place::New(folder.path().join("step-000123"))), 0);
    }
}
