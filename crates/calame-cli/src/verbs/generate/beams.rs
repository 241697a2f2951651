//! `calame generate --beams`: the most likely texts.

use std::time::Instant;

use anyhow::{Result, bail};
use calame::infer::{Beam, BeamConfig, TextEnd, beam_search};
use calame::model::Gpt;
use calame::ops::Device;
use calame::tokenizer::{StreamDecoder, Tokenizer};

use super::Args;
use super::report::Report;
use super::request::{Encoded, Requests};
use crate::ui::output::{UsageError, count, note};
use crate::ui::verbosity;

/// Checks the flags of a search, if one was asked for.
///
/// # Errors
/// If fewer texts would be found than are to be printed; if a setting is out of range.
pub fn check(args: &Args, requests: &Requests) -> Result<()> {
    let Some(n_beams) = args.beams else { return Ok(()) };
    if args.samples > n_beams {
        bail!(UsageError(format!("-n {} was given, but --beams {n_beams} finds fewer texts", args.samples)));
    }
    Ok(requests.beams(args, usize::MAX).validate().map_err(UsageError::from)?)
}

pub fn run(
    args: &Args,
    dev: &Device,
    gpt: &Gpt,
    tokenizer: &dyn Tokenizer,
    requests: &Requests,
    prompts: &[Encoded],
    mut report: Report<'_>,
) -> Result<()> {
    let config = requests.beams(args, tokenizer.n_vocab());
    let phase = verbosity::phase("searching");
    let start = Instant::now();
    let mut n_texts = 0;
    for (number, prompt) in prompts.iter().enumerate() {
        let mut found = beam_search(dev, gpt, &prompt.tokens, &config)?;
        found.truncate(args.samples as usize);
        for (sample, beam) in (0..).zip(&found) {
            let end = end_of(beam, prompt, &config, gpt);
            print(&mut report, n_texts, (number, prompt, sample), tokenizer, beam, end)?;
            n_texts += 1;
        }
        if !args.json {
            describe(args, prompt, &found, gpt);
        }
    }
    drop(phase);
    report.end(start.elapsed().as_secs_f64())
}

/// What has ended a text.
fn end_of(beam: &Beam, prompt: &Encoded, config: &BeamConfig, gpt: &Gpt) -> TextEnd {
    if beam.tokens.last().is_some_and(|token| config.ends.contains(token)) {
        TextEnd::Token
    } else if beam.tokens.len() < config.max_tokens && prompt.tokens.len() + beam.tokens.len() > gpt.config.n_positions
    {
        TextEnd::Context
    } else {
        TextEnd::MaxTokens
    }
}

/// Passes a text to the report.
fn print(
    report: &mut Report<'_>,
    i: usize,
    (number, prompt, sample): (usize, &Encoded, u32),
    tokenizer: &dyn Tokenizer,
    beam: &Beam,
    end: TextEnd,
) -> Result<()> {
    let mut decoder = StreamDecoder::new();
    let echoed = prompt.tokens.iter().map(|&token| decoder.push(tokenizer, token)).collect::<Result<_, _>>()?;
    report.add(number, prompt, sample, echoed)?;
    report.score(i, beam.score);
    for (k, &token) in beam.tokens.iter().enumerate() {
        let is_end = end == TextEnd::Token && k + 1 == beam.tokens.len();
        let piece = if is_end { String::new() } else { decoder.push(tokenizer, token)? };
        report.token(i, token, &piece, None)?;
    }
    report.finish(i, &decoder.finish(), end)
}

/// Notes for people: scores, and what limited the search.
fn describe(args: &Args, prompt: &Encoded, found: &[Beam], gpt: &Gpt) {
    let scores: Vec<String> = found.iter().map(|beam| format!("{:.3}", beam.score)).collect();
    note(&format!("score {}", scores.join(", ")));
    if found.len() < args.samples as usize {
        note(&format!("the search found only {} for {:?}", count(found.len(), "text"), prompt.text));
    }
    let n_positions = gpt.config.n_positions;
    if prompt.tokens.len().saturating_add(args.tokens) > n_positions + 1 {
        note(&format!("a search ends with the model's context of {n_positions} tokens"));
    }
}
