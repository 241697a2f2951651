//! `calame generate --beams`: the most likely texts.

use std::time::Instant;

use anyhow::{Result, bail};
use calame::infer::{TextEnd, beam_search};
use calame::model::Gpt;
use calame::ops::Device;
use calame::tokenizer::{StreamDecoder, Tokenizer};

use super::Args;
use super::report::Report;
use super::request::{Encoded, Requests};
use crate::ui::output::{UsageError, note};
use crate::ui::verbosity;

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
    if args.samples as usize > config.n_beams {
        bail!(UsageError(format!("-n {} was given, but --beams {} finds fewer texts", args.samples, config.n_beams)));
    }
    let phase = verbosity::phase("searching");
    let start = Instant::now();
    let mut n_texts = 0;
    for prompt in prompts {
        let found = beam_search(dev, gpt, &prompt.tokens, &config)?;
        for (sample, beam) in (0..args.samples).zip(&found) {
            let mut decoder = StreamDecoder::new();
            let echoed = prompt.tokens.iter().map(|&token| decoder.push(tokenizer, token)).collect::<Result<_, _>>()?;
            report.add(prompt, sample, echoed)?;
            let has_ended = beam.tokens.last().is_some_and(|token| config.rules.ends.contains(token));
            for (i, &token) in beam.tokens.iter().enumerate() {
                let is_end = has_ended && i + 1 == beam.tokens.len();
                let piece = if is_end { String::new() } else { decoder.push(tokenizer, token)? };
                report.token(n_texts, token, &piece, None)?;
            }
            report.finish(n_texts, &decoder.finish(), if has_ended { TextEnd::Token } else { TextEnd::MaxTokens })?;
            n_texts += 1;
        }
        if found.len() < args.samples as usize {
            note(&format!("the search found {} texts only", found.len()));
        }
        if !args.json {
            let scores: Vec<String> =
                found.iter().take(args.samples as usize).map(|beam| format!("{:.3}", beam.score)).collect();
            note(&format!("score {}: log-probability by length", scores.join(", ")));
        }
    }
    drop(phase);
    report.end(start.elapsed().as_secs_f64())
}
