//! `calame bench train`: the phases of a training step, compared with the machine's peaks.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use calame::data::Windows;
use calame::device::Workload;
use calame::model::{Gpt, ModelConfig};
use calame::ops::{Device, Phase, PhaseTotal};
use calame::rng;
use calame::train::{DeviceConfig, RunConfig, Splits, Trainer};
use serde_json::json;

use super::args::StepArgs;
use crate::training::peaks::{Memory, Peak, median};
use crate::training::{device, memory};
use crate::ui::output::{grouped, note, print, print_json, size};
use crate::ui::verbosity;

/// Steps before those that are timed: the first one touches all memory for the first time.
const WARM_STEPS: u32 = 2;

/// The optimizer of `calame train`, as the report names it.
const OPTIMIZER: &str = "AdamW fused into backward";

/// The measurements of a benchmark.
struct Measured {
    step_seconds: Vec<f64>,
    first_step_seconds: f64,
    phases: Vec<(Phase, PhaseTotal)>,
    /// Operations per second that the multiplication loop reached between the steps.
    peak: f64,
    memory: Memory,
    /// The peak memory of the process, if the system reports it.
    peak_memory_bytes: Option<u64>,
}

pub fn run(args: &StepArgs) -> Result<()> {
    let (model, window) = args.shape()?;
    let (dev, resolved) = device::open(&args.device.config(), Workload::Training)?;
    let clock = Instant::now();
    let dev = dev.profiled(Box::new(move || clock.elapsed()));
    if !args.json {
        note(&format!("training {} steps of {} …", args.steps + WARM_STEPS, args.preset));
    }
    let config = run_config(args, &model, window)?;
    let mut trainer = Trainer::new(&dev, &config, Gpt::fresh(&dev, &model, config.train.seed), splits(&config)?);
    let phase = verbosity::phase("measuring");
    let measured = measure(&dev, &mut trainer, args.steps)?;
    drop(phase);
    report(args, &config, &resolved, &dev, &measured)
}

/// The settings of a training run of the given shape.
fn run_config(args: &StepArgs, model: &ModelConfig, window: usize) -> Result<RunConfig> {
    let preset = args.preset.parse().context("the preset was checked")?;
    let mut config = RunConfig::of_preset(preset);
    config.model = model.clone();
    config.data.batch_size = args.batch_size as usize;
    config.data.eval_batch_size = 1;
    config.data.window = window;
    config.data.stride = window;
    config.data = config.data.resolved();
    Ok(config)
}

/// Random tokens, enough for a few steps.
fn splits(config: &RunConfig) -> Result<Splits> {
    let mut random = rng::Sequence::new(rng::stream(1, rng::Purpose::Sampling, 0));
    let windows = |n: usize, random: &mut rng::Sequence| -> Result<Windows> {
        let n_tokens = n * config.data.window + 1;
        let tokens: Arc<[u32]> = (0..n_tokens).map(|_| random.below(config.model.vocab_size as u64) as u32).collect();
        Ok(Windows::new(tokens, config.data.window, config.data.window)?)
    };
    let train = windows(16 * config.data.batch_size, &mut random)?;
    Ok(Splits::new(train, windows(1, &mut random)?, &config.data)?)
}

fn measure(dev: &Device, trainer: &mut Trainer<'_>, n_steps: u32) -> Result<Measured> {
    let mut peak = Peak::new(dev.precision());
    let mut timed = |trainer: &mut Trainer<'_>| {
        peak.run(dev);
        let start = Instant::now();
        let report = trainer.step()?;
        // A step whose loss is not finite has no backward pass and would look fast.
        anyhow::ensure!(report.loss.is_finite(), "the loss of step {} is {}", report.step, report.loss);
        Ok(start.elapsed().as_secs_f64())
    };
    let first_step_seconds = timed(trainer)?;
    for _ in 1..WARM_STEPS {
        timed(trainer)?;
    }
    dev.take_profile();
    let step_seconds = (0..n_steps).map(|_| timed(trainer)).collect::<Result<_>>()?;
    let phases = dev.take_profile().into_iter().filter(|(_, total)| total.n_calls > 0).collect();
    // Read before the array for measuring memory is allocated.
    let peak_memory_bytes = memory::peak_bytes();
    let (peak, memory) = (peak.operations_per_second(), Memory::of(dev));
    Ok(Measured { step_seconds, first_step_seconds, phases, peak, memory, peak_memory_bytes })
}

/// The seconds that a phase would take at the machine's peak rates.
fn floor_seconds(total: &PhaseTotal, measured: &Measured) -> f64 {
    (total.work.n_operations / measured.peak).max(total.work.n_bytes / measured.memory.update)
}

fn report(
    args: &StepArgs,
    config: &RunConfig,
    resolved: &DeviceConfig,
    dev: &Device,
    measured: &Measured,
) -> Result<()> {
    let (b, t) = (config.data.batch_size, config.data.window);
    let [min, step_seconds, max] = spread(&measured.step_seconds);
    let n_operations = config.model.step_operations(b, t);
    let share_of_peak = n_operations / step_seconds / measured.peak;
    let tokens_per_second = (b * t) as f64 / step_seconds;
    let peak_memory_bytes = measured.peak_memory_bytes;
    if args.json {
        return print_json(&json!({
            "preset": args.preset, "batch_size": b, "window": t, "dropout": config.model.dropout,
            "precision": resolved.precision, "threads": resolved.threads, "instruction_set": resolved.instruction_set,
            "n_parameters": config.model.n_parameters(), "step_operations": n_operations, "optimizer": OPTIMIZER,
            "phases": phases_json(measured), "step_ms_min": 1e3 * min, "step_ms_max": 1e3 * max,
            "first_step_ms": 1e3 * measured.first_step_seconds,
            "peak_operations_per_second": measured.peak, "update_bytes_per_second": measured.memory.update,
            "step_ms": 1e3 * step_seconds, "tokens_per_second": tokens_per_second,
            "share_of_peak": share_of_peak, "peak_memory_bytes": peak_memory_bytes,
        }));
    }
    let memory = peak_memory_bytes.map_or(String::new(), |n| format!("memory {} at its peak\n", size(n)));
    print(&format!(
        "{}: {} parameters, batch {b} x {t}, dropout {}, {OPTIMIZER}\n\
         {} on {} threads ({}) {}\n\
         peaks: {:.0} GFLOP/s in registers, {:.0} GB/s of memory read and written\n\n{}\n\
         step   {:.0} ms ({:.0} to {:.0}), the first {:.0} ms\n\
         speed  {tokens_per_second:.0} tokens/s, {share_of_peak:.2} of the peak\n{memory}",
        args.preset,
        grouped(config.model.n_parameters() as u64),
        config.model.dropout,
        resolved.precision,
        resolved.threads,
        resolved.instruction_set,
        device::describe_products(dev.isa(), dev.precision()),
        measured.peak / 1e9,
        measured.memory.update / 1e9,
        table(measured),
        1e3 * step_seconds,
        1e3 * min,
        1e3 * max,
        1e3 * measured.first_step_seconds,
    ))
}

/// The minimum, the median and the maximum.
fn spread(seconds: &[f64]) -> [f64; 3] {
    let min = seconds.iter().copied().fold(f64::INFINITY, f64::min);
    [min, median(seconds.to_vec()), seconds.iter().copied().fold(0.0, f64::max)]
}

fn phases_json(measured: &Measured) -> Vec<serde_json::Value> {
    let n_steps = measured.step_seconds.len() as f64;
    let of = |(phase, total): &(Phase, PhaseTotal)| {
        json!({ "phase": phase.name(), "ms": 1e3 * total.seconds / n_steps,
            "floor_ms": 1e3 * floor_seconds(total, measured) / n_steps })
    };
    measured.phases.iter().map(of).collect()
}

/// The phases with their means over the steps, the longest first. "floor" is the time at the machine's peak rates.
fn table(measured: &Measured) -> String {
    let n_steps = measured.step_seconds.len() as f64;
    let mean = measured.step_seconds.iter().sum::<f64>() / n_steps;
    let mut text = format!("{:22} {:>9} {:>7} {:>10} {:>9}\n", "phase", "ms", "share", "floor ms", "of floor");
    let mut line = |name: &str, seconds: f64, floor: f64| {
        let of_floor = if floor > 0.0 { format!("{:.2} ×", seconds / floor) } else { String::new() };
        text += format!(
            "{name:22} {:9.1} {:6.1}% {:10.1} {of_floor:>9}",
            1e3 * seconds,
            100.0 * seconds / mean,
            1e3 * floor
        )
        .trim_end();
        text.push('\n');
    };
    let mut phases = measured.phases.clone();
    phases.sort_by(|(_, a), (_, b)| b.seconds.total_cmp(&a.seconds));
    for (phase, total) in &phases {
        line(phase.name(), total.seconds / n_steps, floor_seconds(total, measured) / n_steps);
    }
    let counted: f64 = phases.iter().map(|(_, total)| total.seconds / n_steps).sum();
    line("between the phases", (mean - counted).max(0.0), 0.0);
    text
}
