//! `calame eval`: measures how well a model predicts a text.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use calame::device::Workload;
use calame::plan::evaluation_bytes;
use calame::train::{TextLoss, bits_per_byte, text_loss};

use crate::training::reading::ReadingArgs;
use crate::training::{device, model, runs, text};
use crate::ui::output::{WithHint, grouped, note, print, print_json};
use crate::ui::{progress, verbosity};

/// Measure how well a model predicts a text: loss per token, perplexity, and bits per byte, which can be compared
/// between models with different tokenizers.
///
/// The text is split into windows that start a stride apart. Every token except the first counts once, in the first
/// window that contains it as a target. A stride smaller than the window gives each token more context, but takes
/// longer.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  calame eval --data letters.txt
  calame eval --model runs/2026-11-23-book --data the-verdict --stride 512")]
pub struct Args {
    /// A run or its name under runs/, a folder in Hugging Face's layout, a file of weights, or a name on the model hub
    /// [default: the newest run]
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,

    #[command(flatten)]
    known: model::Args,

    /// Text: a file (.txt, .md, .jsonl, also compressed; .parquet), a folder, a glob or a name; may be repeated
    #[arg(long, value_name = "INPUT", num_args = 1.., required = true)]
    data: Vec<String>,

    /// Tokens per window [default: the model's context]
    #[arg(long, value_name = "N")]
    window: Option<usize>,

    /// Tokens from the start of one window to the start of the next [default: the window]
    #[arg(long, value_name = "N")]
    stride: Option<usize>,

    #[command(flatten)]
    reading: ReadingArgs,

    #[command(flatten)]
    device: device::Args,

    /// Print one JSON object for programs
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let path = runs::model_or_newest(args.model.as_deref())?;
    let (dev, _) = device::open(&args.device.config(), Workload::Inference)?;
    let corpus = text::load(&args.data, &args.reading.options())?;
    let (saved, tokenizer) = model::load_with_tokenizer(&dev, &path, args.known, "text", |config| {
        let window = args.window.unwrap_or(config.n_positions).min(config.n_positions);
        // The ids, 4 bytes each: a token is rarely shorter than two bytes.
        let n_bytes = corpus.text().len() as u64;
        evaluation_bytes(config, window, device::processor(&dev)).saturating_add(2 * n_bytes)
    })?;
    if args.model.is_none() && !args.json {
        note(&format!("model: {}", path.display()));
    }
    let (window, stride) = windows(&args, saved.gpt.config.n_positions)?;
    let tokens = corpus.encode_all(tokenizer.as_ref())?;
    model::check_ids(&tokens, saved.gpt.config.vocab_size, &saved.path)?;
    if tokens.len() < 2 {
        bail!(WithHint::new(
            format!("the text has {} tokens", tokens.len()),
            "give at least two: every token except the first is predicted"
        ));
    }
    let template = "{bar:32} {human_pos} of {human_len} tokens · {eta} left";
    let bar = progress::bar(Some(tokens.len() as u64 - 1), template, args.json)?;
    let _phase = verbosity::phase("evaluating");
    let start = Instant::now();
    let TextLoss { sum, n_tokens } =
        text_loss(&dev, &saved.gpt, &tokens, window, stride, &mut |n_done| bar.set_position(n_done as u64));
    bar.finish_and_clear();
    let (loss, seconds) = (sum / n_tokens as f64, start.elapsed().as_secs_f64());
    // The first token is not predicted, so its bytes do not count.
    let first = tokenizer.decode(&tokens[..1]).map_or(0, |first| first.len());
    let n_bytes = corpus.text().len().saturating_sub(first);
    let bits = bits_per_byte(loss, n_bytes as f64 / n_tokens as f64);
    if args.json {
        print_json(&serde_json::json!({
            "model": saved.path, "n_tokens": n_tokens, "n_bytes": n_bytes, "loss": loss, "perplexity": loss.exp(),
            "bits_per_byte": bits, "window": window, "stride": stride, "seconds": seconds,
        }))?;
    } else {
        print(&format!(
            "loss        {loss:.4} per token\nperplexity  {:.2}\nbits/byte   {bits:.4}\n\
             tokens      {} counted, windows of {window} every {stride}\n",
            loss.exp(),
            grouped(n_tokens as u64)
        ))?;
    }
    Ok(())
}

/// The window and the stride of the evaluation.
///
/// # Errors
/// If the model has no such context, or the stride would skip tokens.
fn windows(args: &Args, n_positions: usize) -> Result<(usize, usize)> {
    let window = args.window.unwrap_or(n_positions);
    let stride = args.stride.unwrap_or(window);
    if window == 0 || window > n_positions {
        bail!(WithHint::usage(
            format!("--window is {window}"),
            format!("it may be 1 to {n_positions}, the model's context")
        ));
    }
    if stride == 0 || stride > window {
        bail!(WithHint::usage(
            format!("--stride is {stride}"),
            format!("it may be 1 to {window}, the window, so that no token is skipped")
        ));
    }
    Ok((window, stride))
}
