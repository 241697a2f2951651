//! Estimates how fast this machine trains a model, from a few steps of a smaller one.
//!
//! A step of a model with one block and a short vocabulary is timed by phase, and each phase is scaled to the whole
//! model: blocks by their number, the head by the vocabulary, AdamW by the bytes. A model whose own step is short is
//! rehearsed unchanged. A training that is about to start does not wait for a long rehearsal: [`estimate`] then
//! measures only the peak.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use calame::data::{ShardError, Windows};
use calame::infer::{Generation, GenerationLimits, Sampler, SamplerConfig};
use calame::model::{Gpt, ModelConfig};
use calame::ops::{self, Device, Phase, PhaseTotal};
use calame::plan::{Machine, Pace, Plan, TextSize};
use calame::rng;
use calame::tensor::Alloc;
use calame::train::{GuardConfig, Rng, RunConfig, Splits, Trainer};

use super::peaks::{self, Peak};

/// A model whose step has fewer operations is rehearsed unchanged.
const SHORT_STEP_OPERATIONS: f64 = 3e10;
/// A rehearsed step has at most about this many operations, but at least one sequence.
const MOST_STEP_OPERATIONS: f64 = 1e11;
/// Rows of the rehearsed vocabulary: two slabs of the columns of a matrix product.
const SHORT_VOCABULARY: usize = 6144;
/// The number of timed steps, after the first; fewer if they take long.
const STEPS: std::ops::RangeInclusive<u32> = 3..=12;
const ENOUGH_SECONDS: f64 = 0.4;
/// Tokens of the rehearsed sample after its prompt.
const SAMPLE_TOKENS: usize = 6;
const SAMPLE_PROMPT: usize = 4;
/// Larger than any last-level cache: 128 MiB.
const BEYOND_CACHE_FLOATS: usize = 32 << 20;
/// Bytes per second that a disk writes and syncs. It is not measured, so the figure is that of a modest disk.
const DISK_BYTES_PER_SECOND: f64 = 4e8;

/// The share of the machine's peak that steps usually reach, for models that are not rehearsed: LOG.md has 0.79 to 0.87
/// in f32 and 0.70 to 0.78 in bf16.
const USUAL_SHARE: f64 = 0.78;
/// Bytes of weights per second that generation usually reads, for the same models.
const USUAL_WEIGHT_BYTES_PER_SECOND: f64 = 2e10;
/// Seconds per byte for touching memory the first time. On a virtual machine that must request memory from its host it
/// can be a second per gigabyte.
const USUAL_TOUCH_SECONDS_PER_BYTE: f64 = 0.3e-9;

/// The result of a rehearsal or an estimate.
#[derive(Clone, Copy, Debug)]
pub struct Rehearsal {
    pub pace: Pace,
    /// Operations per second that the machine reaches in registers.
    pub peak: f64,
}

/// The factors from the rehearsed model to the whole one.
struct Scale {
    blocks: f64,
    head: f64,
    /// Of the rows (tokens) per step, accumulated batches included.
    rows: f64,
}

/// Estimates how fast the machine trains the run's model without delaying its first step: a short step is rehearsed;
/// for a long one the operations are divided by the current peak of the machine and the usual share of it.
///
/// # Errors
/// As [`rehearse`].
pub fn estimate(config: &RunConfig, text: &TextSize, machine: &Machine, plan: &Plan) -> Result<Rehearsal> {
    let data = config.data.resolved();
    if config.model.step_operations(data.batch_size, data.window) <= SHORT_STEP_OPERATIONS {
        return rehearse(config, text, machine);
    }
    let dev = Device::cpu(machine.n_threads, machine.isa, machine.precision);
    let mut peak = Peak::new(dev.precision());
    (0..4).for_each(|_| peak.run(&dev));
    let peak = peak.operations_per_second();
    Ok(Rehearsal { pace: pace_at(peak, config, text, plan), peak })
}

/// The pace of a run whose steps reach the usual share of `peak`, the operations per second that the machine reaches in
/// registers.
fn pace_at(peak: f64, config: &RunConfig, text: &TextSize, plan: &Plan) -> Pace {
    let data = config.data.resolved();
    // Forward is a third of forward and backward.
    let batch_seconds = config.model.step_operations(data.batch_size, data.window) / 3.0 / (USUAL_SHARE * peak);
    let n_rows = data.batch_size as f64 / data.eval_batch_size as f64;
    let token_seconds = 4.0 * plan.n_parameters as f64 / USUAL_WEIGHT_BYTES_PER_SECOND;
    Pace {
        step_seconds: plan.step_operations / (USUAL_SHARE * peak),
        first_touch_seconds: plan.memory_bytes() as f64 * USUAL_TOUCH_SECONDS_PER_BYTE,
        evaluation_seconds: batch_seconds / n_rows * evaluated_batches(config, text, data.eval_batch_size),
        sample_seconds: token_seconds * config.sample.max_tokens as f64,
        disk_bytes_per_second: DISK_BYTES_PER_SECOND,
    }
}

/// Trains a few steps of a model similar to the run's on random tokens.
///
/// # Errors
/// If the rehearsal's settings or tokens are refused.
pub fn rehearse(config: &RunConfig, text: &TextSize, machine: &Machine) -> Result<Rehearsal> {
    let clock = Instant::now();
    let dev =
        Device::cpu(machine.n_threads, machine.isa, machine.precision).profiled(Box::new(move || clock.elapsed()));
    let (small, scale) = smaller(config);
    let mut trainer = Trainer::new(&dev, &small, Gpt::fresh(&dev, &small.model, 1), splits(&small)?);
    let first = timed(&mut || trainer.step().map(drop))?;
    dev.take_profile();
    let mut seconds = Vec::new();
    while seconds.len() < *STEPS.start() as usize
        || (seconds.len() < *STEPS.end() as usize && seconds.iter().sum::<f64>() < ENOUGH_SECONDS)
    {
        seconds.push(timed(&mut || trainer.step().map(drop))?);
    }
    let phases = dev.take_profile();
    let median = peaks::median(seconds.clone());
    let n = seconds.len() as f64;
    let steady = median / (seconds.iter().sum::<f64>() / n);
    let adamw = adamw_bytes(&config.model, text) / (work_of(&phases, Phase::AdamW) / n).max(1.0);
    let step_seconds = steady * scaled(&phases, seconds.iter().sum(), &scale, adamw) / n;

    trainer.evaluate()?;
    dev.take_profile();
    let evaluation = timed(&mut || trainer.evaluate().map(drop))?;
    let both_splits = scaled(&dev.take_profile(), evaluation, &Scale { rows: 1.0, ..scale }, 1.0);
    let evaluation_seconds = both_splits / 2.0 * evaluated_batches(config, text, small.data.eval_batch_size);

    let sample_seconds = sample_seconds(&dev, trainer.gpt(), config, &scale)?;
    let touched = Plan::of(config, text, machine, 0).memory_bytes() as f64;
    let touched_here = Plan::of(&small, &TextSize::default(), machine, 0).memory_bytes() as f64;
    let first_touch_seconds = (first - median).max(0.0) * touched / touched_here;
    let mut peak = Peak::new(dev.precision());
    (0..4).for_each(|_| peak.run(&dev));
    let disk_bytes_per_second = DISK_BYTES_PER_SECOND;
    let pace = Pace { step_seconds, first_touch_seconds, evaluation_seconds, sample_seconds, disk_bytes_per_second };
    Ok(Rehearsal { pace, peak: peak.operations_per_second() })
}

fn timed(work: &mut dyn FnMut() -> Result<(), ShardError>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}

/// The settings of the model that is rehearsed, and the factors to the whole model.
fn smaller(config: &RunConfig) -> (RunConfig, Scale) {
    let mut small = config.clone();
    small.data = config.data.resolved();
    small.data.stride = small.data.window;
    small.train.eval_batches = 1;
    // PyTorch's random numbers cost more, but their time does not scale with the phases.
    small.train.rng = Rng::Calame;
    // A plain step has the phases that are scaled; accumulated batches are counted in `rows`.
    (small.train.accumulate, small.train.clip_norm, small.guard) = (1, 0.0, GuardConfig::default());
    small.checkpoint.copy = false;
    let operations = |c: &RunConfig| c.model.step_operations(c.data.batch_size, c.data.window);
    if operations(&small) > SHORT_STEP_OPERATIONS {
        small.model.n_layer = 1;
        small.model.vocab_size = small.model.vocab_size.min(SHORT_VOCABULARY);
        let n = (small.data.batch_size as f64 * MOST_STEP_OPERATIONS / operations(&small)).max(1.0) as usize;
        small.data.batch_size = small.data.batch_size.min(n);
        small.data.eval_batch_size = small.data.eval_batch_size.min(n);
    }
    let ratio = |whole: usize, part: usize| whole as f64 / part as f64;
    let scale = Scale {
        blocks: ratio(config.model.n_layer, small.model.n_layer),
        head: ratio(config.model.vocab_size, small.model.vocab_size),
        rows: ratio(config.data.batch_size * config.train.accumulate, small.data.batch_size),
    };
    (small, scale)
}

/// Random tokens, enough for a few steps and an evaluation.
fn splits(config: &RunConfig) -> Result<Splits> {
    let mut random = rng::Sequence::new(rng::stream(1, rng::Purpose::Sampling, 0));
    let mut windows = |n: usize| -> Result<Windows> {
        let n_tokens = n * config.data.window + 1;
        let tokens: Arc<[u32]> = (0..n_tokens).map(|_| random.below(config.model.vocab_size as u64) as u32).collect();
        Ok(Windows::new(tokens, config.data.window, config.data.window)?)
    };
    let n_windows = config.data.eval_batch_size.max(2 * config.data.batch_size);
    let train = windows(n_windows)?;
    Ok(Splits::new(train, windows(config.data.eval_batch_size)?, &config.data)?)
}

fn work_of(phases: &[(Phase, PhaseTotal)], wanted: Phase) -> f64 {
    phases.iter().filter(|(phase, _)| *phase == wanted).map(|(_, total)| total.work.n_bytes).sum()
}

/// Bytes that AdamW reads and writes per step of the run's model. The rows of tokens that the text lacks only decay.
fn adamw_bytes(model: &ModelConfig, text: &TextSize) -> f64 {
    let all = model.n_parameters() as f64;
    let n_used = text.is_used.iter().filter(|used| **used).count();
    let n_unused = if model.tied_head { 0 } else { model.vocab_size.saturating_sub(n_used) };
    4.0 * (8.0 * all - 6.0 * (n_unused * model.n_embd) as f64)
}

/// The seconds that the run's model takes for what took the rehearsed model `seconds`, of which `phases` are a part.
fn scaled(phases: &[(Phase, PhaseTotal)], seconds: f64, scale: &Scale, adamw: f64) -> f64 {
    let factor = |phase: Phase| match phase {
        Phase::HeadForward | Phase::HeadBackwardInput | Phase::HeadBackwardWeight | Phase::Loss => {
            scale.head * scale.rows
        }
        // Copies are those of tokens and positions.
        Phase::Embedding | Phase::Memory => scale.rows,
        Phase::AdamW => adamw,
        _ => scale.blocks * scale.rows,
    };
    let counted: f64 = phases.iter().map(|(_, total)| total.seconds).sum();
    let between = (seconds - counted).max(0.0) * scale.blocks;
    phases.iter().map(|(phase, total)| total.seconds * factor(*phase)).sum::<f64>() + between
}

/// The number of batches of `n_sequences` in an evaluation of both splits.
fn evaluated_batches(config: &RunConfig, text: &TextSize, n_sequences: usize) -> f64 {
    let data = config.data.resolved();
    let most = (data.eval_batch_size as u64).saturating_mul(config.train.eval_batches as u64);
    let n_windows = text.n_windows.min(most) + text.n_validation_windows.min(most);
    n_windows as f64 / n_sequences as f64
}

/// The seconds of a sample. Each token reads all weights: if the model is rehearsed in part, they must not come from
/// the cache, since those of the whole model do not.
fn sample_seconds(dev: &Device, gpt: &Gpt, config: &RunConfig, scale: &Scale) -> Result<f64> {
    if config.sample.max_tokens == 0 || gpt.config.n_positions < SAMPLE_PROMPT {
        return Ok(0.0);
    }
    let is_part = scale.blocks > 1.0 || scale.head > 1.0;
    let mut elsewhere = Alloc::on(dev).zeros([if is_part { BEYOND_CACHE_FLOATS } else { 16 }]);
    ops::update_memory(dev, 1.0, &mut elsewhere);
    let sampler = Sampler::new(&SamplerConfig::default(), 0)?;
    let limits = GenerationLimits { max_tokens: SAMPLE_TOKENS + 1, slide: 1 };
    let mut generation = Generation::new(dev, gpt, &[0; SAMPLE_PROMPT], sampler, limits)?;
    generation.next_token()?;
    dev.take_profile();
    let mut seconds = 0.0;
    for _ in 0..SAMPLE_TOKENS {
        std::hint::black_box(ops::read_memory(dev, &elsewhere));
        let start = Instant::now();
        generation.next_token()?;
        seconds += start.elapsed().as_secs_f64();
    }
    let scale = Scale { rows: 1.0, ..*scale };
    let token_seconds = scaled(&dev.take_profile(), seconds, &scale, 1.0) / SAMPLE_TOKENS as f64;
    // The prompt is processed in one batch and takes about as long as one token.
    Ok(token_seconds * config.sample.max_tokens as f64)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use calame::model::Preset;
    use calame::ops::{Isa, Precision};

    #[test]
    fn a_large_model_is_rehearsed_in_part_and_a_small_one_unchanged() {
        let (small, scale) = smaller(&RunConfig::of_preset(Preset::Book));
        assert_eq!((small.model.n_layer, small.model.vocab_size, small.data.batch_size), (1, SHORT_VOCABULARY, 4));
        assert_eq!((scale.blocks, scale.rows), (12.0, 1.0));
        let mut summed = RunConfig::of_preset(Preset::Book);
        (summed.train.accumulate, summed.train.clip_norm) = (8, 1.0);
        let (small, scale) = smaller(&summed);
        assert_eq!((small.train.accumulate, small.train.clip_norm, scale.rows), (1, 0.0, 8.0));
        let (small, scale) = smaller(&RunConfig::of_preset(Preset::Tiny));
        assert_eq!(small.model, Preset::Tiny.config());
        assert_eq!((scale.blocks, scale.head, scale.rows), (1.0, 1.0, 1.0));
        let mut wide = RunConfig::of_preset(Preset::Gpt2Xl);
        wide.data.window = 1024;
        let (small, scale) = smaller(&wide);
        assert_eq!((small.data.batch_size, scale.rows), (1, 4.0));
    }

    /// The phases of a step with their work, bytes and operations, in place of their time.
    fn work_of_a_step(config: &RunConfig) -> Vec<(Phase, PhaseTotal)> {
        let dev = Device::cpu(1, Isa::Portable, Precision::F32).profiled(Box::new(|| Duration::ZERO));
        let mut trainer = Trainer::new(&dev, config, Gpt::fresh(&dev, &config.model, 1), splits(config).unwrap());
        dev.take_profile();
        trainer.step().unwrap();
        let work = |total: PhaseTotal| PhaseTotal { seconds: total.work.n_operations + total.work.n_bytes, ..total };
        dev.take_profile().into_iter().map(|(phase, total)| (phase, work(total))).collect()
    }

    /// The work of a step is counted for the whole model and for a part of it; scaled up, the part has the work of the
    /// whole.
    #[test]
    fn phases_of_a_part_scale_to_those_of_the_whole_model() {
        let mut whole = RunConfig::of_preset(Preset::Tiny);
        whole.model = ModelConfig {
            vocab_size: 640,
            n_positions: 16,
            n_embd: 32,
            n_head: 2,
            n_layer: 6,
            dropout: 0.1,
            ..whole.model
        };
        (whole.data.window, whole.data.stride, whole.data.batch_size) = (16, 16, 4);
        whole.data = whole.data.resolved();
        let mut part = whole.clone();
        (part.model.vocab_size, part.model.n_layer, part.data.batch_size) = (128, 1, 2);
        let scale = Scale { blocks: 6.0, head: 5.0, rows: 2.0 };
        let mut text = TextSize::default();
        text.use_tokens(&(0..640).collect::<Vec<u32>>(), 640);
        let of_part = work_of_a_step(&part);
        let adamw = adamw_bytes(&whole.model, &text) / work_of(&of_part, Phase::AdamW);
        let mut ratios = Vec::new();
        for ((phase, of_whole), of_part) in work_of_a_step(&whole).into_iter().zip(of_part) {
            if of_whole.seconds > 0.0 {
                let scaled = scaled(&[of_part], of_part.1.seconds, &scale, adamw);
                ratios.push((phase, scaled / of_whole.seconds));
            }
        }
        let is_wrong = |(phase, ratio): &(Phase, f64)| match phase {
            // These phases are scaled by the number of blocks, although some of their work is outside the blocks.
            Phase::LayerNorm | Phase::Dropout => !(1.0..2.0).contains(ratio),
            _ => (ratio - 1.0).abs() > 0.01,
        };
        assert!(ratios.len() >= 13 && !ratios.iter().any(is_wrong), "{ratios:?}");
    }

    #[test]
    fn every_part_of_a_training_has_a_pace() {
        let mut config = RunConfig::of_preset(Preset::Tiny);
        (config.model.vocab_size, config.model.n_embd, config.data.window) = (101, 16, 8);
        let mut text = TextSize { n_windows: 20, n_validation_windows: 2, ..TextSize::default() };
        text.use_tokens(&[1, 2, 3], 101);
        let machine = Machine { isa: Isa::Portable, precision: Precision::F32, n_threads: 1, program_bytes: 1 << 20 };
        let Rehearsal { pace, peak } = rehearse(&config, &text, &machine).unwrap();
        assert!(pace.step_seconds > 0.0 && pace.evaluation_seconds > 0.0 && pace.sample_seconds > 0.0, "{pace:?}");
        assert!(pace.first_touch_seconds >= 0.0 && peak > 1e6);
        config.sample.max_tokens = 0;
        assert_eq!(rehearse(&config, &text, &machine).unwrap().pace.sample_seconds, 0.0);
    }

    /// The report's training as measured on a Zen 4 machine (LOG.md): steps of 4 × 256 at 233 (f32) and 468 GFLOP/s
    /// (bf16), 120 s for 16 evaluations and 10 s for 10 samples and saving.
    #[test]
    fn the_estimate_of_a_long_training_is_close_to_its_measurement() {
        let config = RunConfig::of_preset(Preset::Book);
        let text = TextSize { n_windows: 35, n_validation_windows: 3, ..TextSize::default() };
        let machine = Machine { isa: Isa::Portable, precision: Precision::F32, n_threads: 2, program_bytes: 0 };
        let plan = Plan::of(&config, &text, &machine, 0);
        for (peak, step_seconds) in [(233e9, 4.257), (233e9, 3.916), (468e9, 2.319), (468e9, 2.158)] {
            let ratio = pace_at(peak, &config, &text, &plan).step_seconds / step_seconds;
            assert!((ratio - 1.0).abs() < 0.15, "{ratio} of a step of {step_seconds} s");
        }
        let pace = pace_at(233e9, &config, &text, &plan);
        let ratio = pace.evaluation_seconds / (120.0 / 16.0);
        assert!((ratio - 1.0).abs() < 0.15, "{ratio} of an evaluation");
        assert!((0.5..2.0).contains(&pace.sample_seconds), "{} s for a sample", pace.sample_seconds);
        // Batches of one sequence take as long.
        let mut one_by_one = config;
        (one_by_one.data.eval_batch_size, one_by_one.train.eval_batches) = (1, 20);
        let seconds = pace_at(233e9, &one_by_one, &text, &plan).evaluation_seconds;
        assert!((seconds / pace.evaluation_seconds - 1.0).abs() < 1e-9, "{seconds} s");
    }

    #[test]
    fn a_long_step_is_estimated_and_a_short_one_rehearsed() {
        let text = TextSize { n_train_tokens: 9000, n_windows: 70, n_validation_windows: 7, ..TextSize::default() };
        let machine = Machine { isa: Isa::detect(), precision: Precision::F32, n_threads: 1, program_bytes: 0 };
        let estimated = |config: &RunConfig| {
            let plan = Plan::of(config, &text, &machine, 0);
            let Rehearsal { pace, peak } = estimate(config, &text, &machine, &plan).unwrap();
            assert!(peak > 1e6 && pace.step_seconds > 0.0, "{pace:?}");
            plan.step_operations / pace.step_seconds / peak
        };
        assert!((estimated(&RunConfig::of_preset(Preset::Book)) - USUAL_SHARE).abs() < 1e-9);
        // A step of few operations spends most of its time on other things, which only a rehearsal measures.
        let mut tiny = RunConfig::of_preset(Preset::Tiny);
        (tiny.model.vocab_size, tiny.data.window) = (101, 16);
        let share = estimated(&tiny);
        assert!(share < 0.9 * USUAL_SHARE, "{share}");
    }
}
