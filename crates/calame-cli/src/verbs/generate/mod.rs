//! `calame generate`: continues prompts.

mod args;
mod beams;
mod prompts;
mod report;
mod request;

use std::time::Instant;

use anyhow::{Result, bail};
use calame::device::Workload;
use calame::infer::{Engine, EngineLimits, SequenceId, TextEngine, TextEvent, beam_search_bytes, engine_bytes};
use calame::model::{Gpt, ModelConfig};
use calame::ops::Device;
use calame::tokenizer::Tokenizer;

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
/// Drafted tokens of a batch, if there are any.
const MAX_DRAFTS: usize = 15;

pub fn run(args: Args) -> Result<()> {
    let prompts = prompts::read(&args)?;
    let n_sequences = n_texts(&args, prompts.len())?;
    let requests = Requests::new(&args)?;
    beams::check(&args, &requests)?;
    let path = runs::model_or_newest(args.model.as_deref())?;
    let (dev, _) = device::open(&args.device.config(), Workload::Inference)?;
    let longest = prompts.iter().map(String::len).max().unwrap_or(0);
    let (saved, tokenizer) = model::load_with_tokenizer(&dev, &path, args.known, "prompt", |config| {
        // A token is at least a byte.
        let longest = longest.saturating_add(1);
        match args.beams {
            Some(_) => beam_search_bytes(config, 0, longest, &requests.beams(&args, usize::MAX)),
            None => engine_bytes(config, 0, limits(&args, config, n_sequences, longest)),
        }
    })?;
    if args.model.is_none() && !args.json {
        note(&format!("model: {}{}", path.display(), runs::which_model(&path)));
    }
    let requests = requests.with_bounds(&args, &saved.bounds);
    let config = &saved.gpt.config;
    let encoded = requests.encode(&args, &prompts, tokenizer.as_ref(), &saved.bounds, config)?;
    let mut report = Report::new(&args, &saved.path, tokenizer.as_ref());
    if args.beams.is_some() {
        return beams::run(&args, &dev, &saved.gpt, tokenizer.as_ref(), &requests, &encoded, report);
    }
    let longest = encoded.iter().map(|prompt| prompt.tokens.len()).max().unwrap_or(0);
    let engine = Engine::new(&dev, &saved.gpt, limits(&args, config, n_sequences, longest))?;
    let mut texts = TextEngine::new(engine, tokenizer.as_ref());
    let phase = verbosity::phase("generating");
    let start = Instant::now();
    let mut ids: Vec<SequenceId> = Vec::with_capacity(n_sequences);
    for (number, prompt) in encoded.iter().enumerate() {
        for sample in 0..args.samples {
            let request = requests.request(&args, prompt, ids.len(), tokenizer.as_ref())?;
            let (id, echoed) = texts.add(request, &requests.stop)?;
            ids.push(id);
            report.add(number, prompt, sample, echoed)?;
        }
    }
    let n_tokens = generate(&mut texts, &mut report, &ids)?;
    drop(phase);
    let seconds = start.elapsed().as_secs_f64();
    report.end(seconds)?;
    if !args.json {
        let speed = n_tokens as f64 / seconds;
        note(&format!("{}, {speed:.0} tokens/s including the prompt", count(n_tokens, "token")));
        let state = texts.engine().state();
        if state.n_drafted > 0 {
            note(&format!("{} of {} drafted tokens were right", state.n_accepted, state.n_drafted));
        }
    }
    Ok(())
}

/// Number of texts that were asked for.
///
/// # Errors
/// If there are too many.
fn n_texts(args: &Args, n_prompts: usize) -> Result<usize> {
    let n = n_prompts.saturating_mul(args.samples as usize);
    if n > MAX_TEXTS {
        let (n, most) = (grouped(n as u64), grouped(MAX_TEXTS as u64));
        bail!(UsageError(format!("{n} texts were asked for: expected at most {most}")));
    }
    Ok(n)
}

/// Runs the engine until all texts have ended; returns the number of new tokens. `ids` are the sequences of the texts.
fn generate(
    texts: &mut TextEngine<&Device, &Gpt, &dyn Tokenizer>,
    report: &mut Report<'_>,
    ids: &[SequenceId],
) -> Result<usize> {
    let place = |id: SequenceId| ids.binary_search(&id).expect("ids are in the order in which they were added");
    let mut n_tokens = 0;
    while !texts.is_idle() {
        for event in texts.step() {
            match event {
                TextEvent::Piece { sequence, token, text, log_probs } => {
                    n_tokens += 1;
                    report.token(place(sequence), token, &text, log_probs)?;
                }
                TextEvent::Finished { sequence, text, end } => report.finish(place(sequence), &text, end)?,
                TextEvent::Failed { error, .. } => return Err(error.into()),
            }
        }
    }
    Ok(n_tokens)
}

/// The sizes of the engine: pages for every sequence that runs at the same time, unless a memory is given.
fn limits(args: &Args, config: &ModelConfig, n_sequences: usize, longest_prompt: usize) -> EngineLimits {
    let n_sequences = n_sequences.min(MAX_SEQUENCES);
    let limits = EngineLimits::for_sequences(config, n_sequences, longest_prompt, args.tokens);
    let limits =
        EngineLimits { kv_bytes: args.kv_memory.map_or(limits.kv_bytes, |most| most.min(limits.kv_bytes)), ..limits };
    if args.draft > 0 { limits.with_drafts(MAX_DRAFTS) } else { limits }
}
