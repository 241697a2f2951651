//! `calame explain`: what a model expects at each token of a text, and what a head attends to.

use std::path::PathBuf;

use anyhow::{Result, bail};
use calame::device::Workload;
use calame::infer::{LogProbs, TokenLogProb};
use calame::ops;
use calame::plan::all_logits_bytes;
use calame::run::plot;
use calame::tokenizer::{Special, Tokenizer};
use serde_json::json;

use super::outputs;
use crate::training::{device, model, runs};
use crate::ui::output::{UsageError, WithHint, note, print, print_json, visible};

/// Longest text: the table has a line for each token, and the figure a row.
const MAX_TOKENS: usize = 256;

/// Show how a model reads a text: the probability and the rank of each token, what it expected instead, and what a head
/// of a layer attends to.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  calame explain \"Every effort moves you\"
  calame explain \"I had always thought\" --layer 3 --head 5 --out attention.svg")]
pub struct Args {
    /// The text to explain, token by token
    #[arg(value_name = "TEXT", default_value = "Every effort moves you")]
    text: String,

    /// A run or its name under runs/, a folder in Hugging Face's layout, a file of weights, or a name on the model hub
    /// [default: the newest run]
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,

    #[command(flatten)]
    known: model::Args,

    /// Number of alternatives for each token
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=20))]
    top: u32,

    /// The layer whose attention is shown, from 0
    #[arg(long, value_name = "L", default_value_t = 0)]
    layer: usize,

    /// The head whose attention is shown, from 0
    #[arg(long, value_name = "H", default_value_t = 0)]
    head: usize,

    /// Draw the head's attention: .svg, .png or .pdf
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    #[command(flatten)]
    device: device::Args,

    /// Print one JSON object for programs
    #[arg(long)]
    json: bool,
}

/// A token as the model saw it.
struct Explained {
    id: u32,
    text: String,
    /// Its log-probability and rank from 1, except for the first token, which nothing precedes.
    expected: Option<(f64, usize)>,
    /// What the model expects after it.
    next: Vec<TokenLogProb>,
}

pub fn run(args: Args) -> Result<()> {
    if let Some(out) = &args.out {
        outputs::check_figure(out)?;
    }
    let path = runs::model_or_newest(args.model.as_deref())?;
    let (dev, _) = device::open(&args.device.config(), Workload::Inference)?;
    let (saved, tokenizer) = model::load_with_tokenizer(&dev, &path, args.known, "text", |config| {
        all_logits_bytes(config, args.text.len().min(MAX_TOKENS), device::processor(&dev))
    })?;
    if args.model.is_none() && !args.json {
        note(&format!("model: {}{}", path.display(), runs::which_model(&path)));
    }
    let config = &saved.gpt.config;
    if args.layer >= config.n_layer || args.head >= config.n_head {
        bail!(UsageError(format!(
            "--layer {} --head {}: the model has layers 0 to {} with heads 0 to {}",
            args.layer,
            args.head,
            config.n_layer - 1,
            config.n_head - 1
        )));
    }
    let ids = tokenizer.encode(&args.text, Special::Allow)?;
    model::check_ids(&ids, config.vocab_size, &saved.path)?;
    let most = MAX_TOKENS.min(config.n_positions);
    if ids.is_empty() || ids.len() > most {
        let message = format!("the text has {} tokens, expected 1 to {most}", ids.len());
        bail!(WithHint::new(message, "explain a shorter part of it"));
    }
    let logits = ops::read(&dev, &saved.gpt.logits(&dev, &ids, 1));
    let rows: Vec<&[f32]> = logits.chunks_exact(config.vocab_size).collect();
    let explained = explain(&ids, &rows, tokenizer.as_ref(), args.top as usize)?;
    let weights = saved.gpt.attention_weights(&dev, &ids, args.layer, args.head);
    if let Some(out) = &args.out {
        let names: Vec<String> = explained.iter().map(|token| token.text.clone()).collect();
        plot::draw_attention(&names, &weights, &format!("Layer {}, head {}", args.layer, args.head), out)?;
    }
    if args.json {
        return print_json(&as_json(&args, &explained, &weights, tokenizer.as_ref()));
    }
    print(&table(&explained, &weights, tokenizer.as_ref()))?;
    if let Some(out) = &args.out {
        print(&format!("\nfigure  {}\n", out.display()))?;
    }
    Ok(())
}

/// A token's text in a form that shows white space.
fn shown(tokenizer: &dyn Tokenizer, id: u32) -> String {
    visible(&tokenizer.decode(&[id]).unwrap_or_default())
}

fn explain(ids: &[u32], rows: &[&[f32]], tokenizer: &dyn Tokenizer, n: usize) -> Result<Vec<Explained>> {
    let mut explained = Vec::new();
    for (i, &id) in ids.iter().enumerate() {
        let expected = match i.checked_sub(1) {
            None => None,
            Some(before) => {
                let log_prob = LogProbs::of(rows[before])?.of_token(id);
                let rank = 1 + rows[before].iter().filter(|logit| **logit > rows[before][id as usize]).count();
                Some((log_prob, rank))
            }
        };
        let mut next = Vec::new();
        LogProbs::of(&rows[i][..tokenizer.n_vocab().min(rows[i].len())])?.best(n, &mut next);
        explained.push(Explained { id, text: shown(tokenizer, id), expected, next });
    }
    Ok(explained)
}

/// The position that each one attends to most, with the weight.
fn most_attended(weights: &[f64], n: usize, i: usize) -> (usize, f64) {
    let row = &weights[i * n..(i + 1) * n];
    let best = row.iter().enumerate().fold((0, 0.0), |best, (k, &w)| if w > best.1 { (k, w) } else { best });
    (best.0, best.1)
}

fn table(explained: &[Explained], weights: &[f64], tokenizer: &dyn Tokenizer) -> String {
    let percent = |log_prob: f64| format!("{:.1} %", 100.0 * log_prob.exp());
    let mut text = "token            probability  rank  attends most to             expected instead\n".to_owned();
    for (i, token) in explained.iter().enumerate() {
        let (probability, rank) = token
            .expected
            .map_or((String::new(), String::new()), |(log_prob, rank)| (percent(log_prob), rank.to_string()));
        let (k, weight) = most_attended(weights, explained.len(), i);
        let attended = format!("{} ({:.0} %)", explained[k].text, 100.0 * weight);
        let before = i.checked_sub(1).map_or(&[][..], |before| &explained[before].next[..]);
        let instead: Vec<String> =
            before.iter().map(|best| format!("{} {}", shown(tokenizer, best.token), percent(best.log_prob))).collect();
        let line = format!("{:<16} {probability:>11} {rank:>5}  {attended:<26} {}", token.text, instead.join(", "));
        text += line.trim_end();
        text.push('\n');
    }
    if let Some(last) = explained.last() {
        let next: Vec<String> = last
            .next
            .iter()
            .map(|best| format!("{} {}", shown(tokenizer, best.token), percent(best.log_prob)))
            .collect();
        text += &format!("{:<63}{}\n", "next", next.join(", "));
    }
    text
}

fn as_json(args: &Args, explained: &[Explained], weights: &[f64], tokenizer: &dyn Tokenizer) -> serde_json::Value {
    let best = |best: &TokenLogProb| json!({ "id": best.token, "text": shown(tokenizer, best.token), "logprob": best.log_prob });
    let tokens: Vec<_> = explained
        .iter()
        .map(|token| {
            json!({
                "id": token.id,
                "text": token.text,
                "logprob": token.expected.map(|(log_prob, _)| log_prob),
                "rank": token.expected.map(|(_, rank)| rank),
                "next": token.next.iter().map(best).collect::<Vec<_>>(),
            })
        })
        .collect();
    let rows: Vec<&[f64]> = weights.chunks_exact(explained.len()).enumerate().map(|(i, row)| &row[..=i]).collect();
    json!({
        "text": args.text, "tokens": tokens, "layer": args.layer, "head": args.head, "attention": rows, "figure": args.out,
    })
}
