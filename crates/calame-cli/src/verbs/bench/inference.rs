//! `calame bench decode`, `prompt` and `batch`: the speed of inference, compared with the machine's bounds.
//!
//! Decoding one sequence reads every weight once per token, so that the memory's bandwidth bounds it. A prompt, and many
//! sequences at once, are bound by arithmetic.

use std::time::Instant;

use anyhow::{Result, bail};
use calame::device::Workload;
use calame::model::{ExtendScratch, Gpt, KvPool, ModelConfig, PageTable, Preset, Rows, n_pages};
use calame::ops::{Device, Phase, PhaseTotal, Precision};
use calame::rng;
use calame::tensor::{Alloc, NumberFormat, Tensor};
use serde_json::json;

use super::args::InferenceArgs;
use crate::training::peaks::{Memory, Peak, median};
use crate::training::{device, model};
use crate::ui::output::{UsageError, grouped, note, print, print_json, size};
use crate::ui::verbosity;

/// Rows of a call while prompts are processed.
const CHUNK: usize = 512;

/// The three measurements of inference.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Decode,
    Prompt,
    Batch,
}

pub fn decode(args: &InferenceArgs) -> Result<()> {
    run(args, Kind::Decode, 1, args.prompt.unwrap_or(32), args.tokens)
}

pub fn prompt(args: &InferenceArgs) -> Result<()> {
    run(args, Kind::Prompt, 1, args.prompt.unwrap_or(512), 0)
}

pub fn batch(args: &InferenceArgs) -> Result<()> {
    run(args, Kind::Batch, args.sequences as usize, args.prompt.unwrap_or(32), args.tokens)
}

fn run(args: &InferenceArgs, kind: Kind, n_sequences: usize, n_prompt: usize, n_tokens: usize) -> Result<()> {
    let (dev, _) = device::open(&args.device.config(), Workload::Inference)?;
    let clock = Instant::now();
    let dev = dev.profiled(Box::new(move || clock.elapsed()));
    let gpt = load(args, &dev)?;
    let n_positions = gpt.config.n_positions;
    if n_prompt == 0 || n_prompt + n_tokens > n_positions || (kind != Kind::Prompt && n_tokens == 0) {
        bail!(UsageError(format!(
            "--prompt {n_prompt} and --tokens {n_tokens}: expected at least one, together at most the context of {n_positions}"
        )));
    }
    let mut session = Session::new(&dev, &gpt, n_sequences, n_prompt, n_tokens);
    let phase = verbosity::phase("measuring");
    let mut rounds = Vec::new();
    let mut profile = [(Phase::Memory, PhaseTotal::default()); Phase::ALL.len()];
    for round in 0..=args.rounds {
        let timed = session.round(kind)?;
        // The first round touches the memory for the first time.
        if round > 0 {
            rounds.push(timed.0);
            profile = timed.1;
        }
    }
    drop(phase);
    let n_timed = if kind == Kind::Prompt { n_prompt } else { n_sequences * n_tokens };
    report(args, kind, &dev, &gpt, n_timed, rounds, &profile)
}

/// The model to measure.
fn load(args: &InferenceArgs, dev: &Device) -> Result<Gpt> {
    if let Some(path) = &args.model {
        return Ok(model::load_as_stored(dev, path, model::Args::default(), |_| 0)?.gpt);
    }
    let preset: Preset = args.preset.parse().map_err(UsageError::from)?;
    if !args.json {
        note(&format!("drawing the weights of {} …", args.preset));
    }
    let config = ModelConfig { dropout: 0.0, ..preset.config() };
    Ok(Gpt::fresh(dev, &config, 1).for_inference(dev, args.r#type))
}

/// Sequences of random tokens, and all memory that they take.
struct Session<'a> {
    dev: &'a Device,
    gpt: &'a Gpt,
    tokens: Vec<u32>,
    n_prompt: usize,
    n_tokens: usize,
    pool: KvPool,
    tables: Vec<PageTable>,
    rows: Rows,
    logits: Tensor,
    scratch: ExtendScratch,
}

impl<'a> Session<'a> {
    fn new(dev: &'a Device, gpt: &'a Gpt, n_sequences: usize, n_prompt: usize, n_tokens: usize) -> Session<'a> {
        let mut random = rng::Sequence::new(rng::stream(1, rng::Purpose::Sampling, 0));
        let config = &gpt.config;
        let tokens =
            (0..n_prompt + n_tokens).map(|_| random.below(config.vocab_size as u64) as u32).collect::<Vec<u32>>();
        let alloc = &mut Alloc::on(dev);
        let pool = KvPool::new(config, n_sequences * n_pages(n_prompt + n_tokens), alloc);
        let n_rows = n_prompt.min(CHUNK).max(n_sequences);
        Session {
            dev,
            gpt,
            tokens,
            n_prompt,
            n_tokens,
            tables: (0..n_sequences).map(|_| pool.new_table()).collect(),
            pool,
            rows: Rows::with_capacity(n_rows, alloc),
            logits: alloc.zeros([n_sequences, config.vocab_size]),
            scratch: ExtendScratch::new(config, n_rows, n_sequences, 0, alloc),
        }
    }

    /// One round: seconds, and the time of each phase.
    fn round(&mut self, kind: Kind) -> Result<(f64, [(Phase, PhaseTotal); Phase::ALL.len()])> {
        self.tables.iter_mut().for_each(|table| self.pool.release(table));
        self.dev.take_profile();
        let start = Instant::now();
        for sequence in 0..self.tables.len() {
            for first in (0..self.n_prompt).step_by(CHUNK) {
                self.rows.clear();
                for i in first..(first + CHUNK).min(self.n_prompt) {
                    self.rows.push(sequence, self.tokens[i], i + 1 == self.n_prompt);
                }
                self.extend()?;
            }
        }
        if kind == Kind::Prompt {
            return Ok((start.elapsed().as_secs_f64(), self.dev.take_profile()));
        }
        self.dev.take_profile();
        let start = Instant::now();
        for i in 0..self.n_tokens {
            self.rows.clear();
            for sequence in 0..self.tables.len() {
                self.rows.push(sequence, self.tokens[self.n_prompt + i], true);
            }
            self.extend()?;
        }
        Ok((start.elapsed().as_secs_f64(), self.dev.take_profile()))
    }

    fn extend(&mut self) -> Result<()> {
        let Session { dev, gpt, pool, tables, rows, logits, scratch, .. } = self;
        Ok(gpt.extend(dev, rows, tables, pool, logits, scratch)?)
    }
}

fn report(
    args: &InferenceArgs,
    kind: Kind,
    dev: &Device,
    gpt: &Gpt,
    n_tokens: usize,
    rounds: Vec<f64>,
    profile: &[(Phase, PhaseTotal)],
) -> Result<()> {
    let seconds = median(rounds.clone());
    let tokens_per_second = n_tokens as f64 / seconds;
    let (matrix_bytes, read) = (gpt.matrix_bytes(), Memory::of(dev).read);
    let n_passes = if kind == Kind::Batch { n_tokens / args.sequences as usize } else { n_tokens };
    let bandwidth = matrix_bytes as f64 * n_passes as f64 / seconds;
    let precision = if gpt.head().format() == Some(NumberFormat::Bf16) { Precision::Bf16 } else { Precision::F32 };
    let peak = Peak::of(dev, precision);
    // All tokens need the layers; only the last one of a prompt needs the head.
    let n_multiplied = gpt.config.n_multiplied_weights() as f64;
    let head = (gpt.config.vocab_size * gpt.config.n_embd) as f64;
    let heads = if kind == Kind::Prompt { 1.0 } else { n_tokens as f64 };
    let operations = 2.0 * ((n_multiplied - head) * n_tokens as f64 + head * heads) / seconds;
    if args.json {
        return print_json(&json!({
            "model": args.model, "preset": args.model.is_none().then_some(&args.preset),
            "type": gpt.head().format().map(NumberFormat::name), "threads": dev.n_threads(), "instruction_set": dev.isa().name(),
            "tokens_per_second": tokens_per_second, "seconds": rounds,
            "matrix_bytes": matrix_bytes, "bytes_per_second": bandwidth, "read_bytes_per_second": read,
            "share_of_bandwidth": (kind != Kind::Prompt).then_some(bandwidth / read),
            "operations_per_second": operations, "peak_operations_per_second": peak, "share_of_peak": operations / peak,
        }));
    }
    let memory = (kind != Kind::Prompt).then(|| {
        format!(
            "memory     {:.1} GB/s, {:.2} of the machine's {:.1} GB/s: {} of weights per pass\n",
            bandwidth / 1e9,
            bandwidth / read,
            read / 1e9,
            size(matrix_bytes)
        )
    });
    print(&format!(
        "speed      {tokens_per_second:.1} tokens/s (median of {} rounds of {} tokens)\n{}\
         arithmetic {:.0} GFLOP/s, {:.2} of the peak of {:.0} GFLOP/s in {precision}\n\n{}",
        rounds.len(),
        grouped(n_tokens as u64),
        memory.unwrap_or_default(),
        operations / 1e9,
        operations / peak,
        peak / 1e9,
        phases(profile)
    ))
}

/// The time of each phase of the last round.
fn phases(profile: &[(Phase, PhaseTotal)]) -> String {
    let total: f64 = profile.iter().map(|(_, total)| total.seconds).sum();
    let line = |(phase, total_of): &(Phase, PhaseTotal)| {
        let PhaseTotal { n_calls, seconds, .. } = total_of;
        format!("{:20} {:9.1} ms {:5.1} %  {n_calls} calls\n", phase.name(), 1e3 * seconds, 100.0 * seconds / total)
    };
    profile.iter().filter(|(_, total)| total.n_calls > 0).map(line).collect()
}
