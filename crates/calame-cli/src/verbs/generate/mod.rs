//! `calame generate`: continues prompts.

mod args;
mod prompts;
mod report;
mod request;

use std::time::Instant;

use anyhow::{Result, bail};
use calame::device::Workload;
use calame::infer::{Engine, EngineLimits, Event, SequenceId, engine_bytes};
use calame::model::{Gpt, ModelConfig, kv_page_bytes, n_pages};
use calame::ops::Device;

pub use args::Args;
use report::Report;
use request::Requests;

use crate::training::{device, model, runs};
use crate::ui::output::{UsageError, count, grouped, note};
use crate::ui::verbosity;

/// Most texts of one command, all of which are kept until those before them are printed.
const MAX_TEXTS: usize = 100_000;
/// Sequences that are generated at the same time.
const MAX_SEQUENCES: usize = 16;
/// Rows of a batch.
const MAX_ROWS: usize = 256;
/// Drafted tokens of a batch, if there are any.
const MAX_DRAFTS: usize = 15;

pub fn run(args: Args) -> Result<()> {
    let prompts = prompts::read(&args)?;
    let n_sequences = prompts.len().saturating_mul(args.samples as usize);
    if n_sequences > MAX_TEXTS {
        bail!(UsageError(format!(
            "{} texts were asked for: expected at most {}",
            grouped(n_sequences as u64),
            grouped(MAX_TEXTS as u64)
        )));
    }
    let requests = Requests::new(&args)?;
    let path = runs::model_or_newest(args.model.as_deref())?;
    let (dev, _) = device::open(&args.device.config(), Workload::Inference)?;
    let longest = prompts.iter().map(String::len).max().unwrap_or(0);
    let (saved, tokenizer) = model::load_with_tokenizer(&dev, &path, args.known, "prompt", |config| {
        // A token is at least a byte.
        engine_bytes(config, 0, limits(&args, config, n_sequences, longest.saturating_add(1)))
    })?;
    if args.model.is_none() && !args.json {
        note(&format!("model: {}{}", path.display(), runs::which_model(&path)));
    }
    let requests = requests.with_bounds(&saved.bounds);
    let config = &saved.gpt.config;
    let encoded = requests.encode(&args, &prompts, tokenizer.as_ref(), &saved.bounds, config)?;
    let longest = encoded.iter().map(|prompt| prompt.tokens.len()).max().unwrap_or(0);
    let mut engine = Engine::new(&dev, &saved.gpt, limits(&args, config, n_sequences, longest))?;
    let mut report = Report::new(&args, &saved.path, tokenizer.as_ref());
    let phase = verbosity::phase("generating");
    let start = Instant::now();
    let mut ids: Vec<SequenceId> = Vec::with_capacity(n_sequences);
    for prompt in &encoded {
        for sample in 0..args.samples {
            ids.push(engine.add(requests.request(&args, prompt, ids.len(), tokenizer.as_ref())?)?);
            report.add(prompt, sample, requests.stream(&saved.bounds))?;
        }
    }
    let n_tokens = generate(&mut engine, &mut report, &ids)?;
    drop(phase);
    let seconds = start.elapsed().as_secs_f64();
    report.end(seconds)?;
    if !args.json {
        let speed = n_tokens as f64 / seconds;
        note(&format!("{}, {speed:.0} tokens/s including the prompt", count(n_tokens, "token")));
        let state = engine.state();
        if state.n_drafted > 0 {
            note(&format!("{} of {} drafted tokens were right", state.n_accepted, state.n_drafted));
        }
    }
    Ok(())
}

/// Runs the engine until all texts have ended; returns the number of new tokens. `ids` are the sequences of the texts.
fn generate(engine: &mut Engine<&Device, &Gpt>, report: &mut Report<'_>, ids: &[SequenceId]) -> Result<usize> {
    let place = |id: &SequenceId| ids.binary_search(id).expect("ids are in the order in which they were added");
    let mut n_tokens = 0;
    while !engine.is_idle() {
        let mut ended = Vec::new();
        for event in engine.step() {
            match event {
                Event::Token { sequence, token, log_probs } => {
                    n_tokens += 1;
                    if report.token(place(sequence), *token, log_probs.as_ref())? {
                        ended.push(*sequence);
                    }
                }
                Event::Finished { sequence, .. } => report.finish(place(sequence))?,
                Event::Failed { error, .. } => return Err(error.clone().into()),
            }
        }
        for id in ended {
            // Those that a token has ended are no longer there.
            engine.cancel(id);
            report.finish(place(&id))?;
        }
    }
    Ok(n_tokens)
}

/// The sizes of the engine: pages for every sequence that runs at the same time.
fn limits(args: &Args, config: &ModelConfig, n_sequences: usize, longest_prompt: usize) -> EngineLimits {
    let max_sequences = n_sequences.clamp(1, MAX_SEQUENCES);
    let n_seen = longest_prompt.saturating_add(args.tokens).clamp(1, config.n_positions);
    let n_all = (max_sequences * n_pages(n_seen)) as u64;
    // Past the context, the remaining tokens are computed again in chunks.
    let n_at_once =
        if longest_prompt.saturating_add(args.tokens) > config.n_positions { n_seen } else { longest_prompt };
    EngineLimits {
        max_rows: n_at_once.clamp(max_sequences, MAX_ROWS.max(max_sequences))
            + if args.draft > 0 { MAX_DRAFTS } else { 0 },
        max_sequences,
        max_drafts: if args.draft > 0 { MAX_DRAFTS } else { 0 },
        kv_bytes: n_all.saturating_mul(kv_page_bytes(config)),
    }
}
