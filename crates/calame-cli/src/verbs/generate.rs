//! `calame generate`: continues a prompt.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use calame::device::Workload;
use calame::infer::{SamplerConfig, TextGeneration, TextOptions, generation_bytes};
use calame::tokenizer::{Special, Tokenizer};

use crate::training::{device, model, runs};
use crate::ui::output::{UsageError, WithHint, note, print, print_json};
use crate::ui::verbosity;

/// Continue a prompt with a trained model.
///
/// The text is printed as it is generated. Decoding is greedy unless --temperature, --top-k or --top-p is given. Past
/// the model's context, generation continues with a sliding window.
#[derive(clap::Args, Debug)]
#[command(
    allow_negative_numbers = true,
    after_help = "Examples:
  # the newest run, greedy
  calame generate
  calame generate --model runs/2026-11-23-book --context \"I had always\"
  calame generate --temperature 0.8 --top-k 50 --top-p 0.9 --seed 7"
)]
pub struct Args {
    /// A run or its name under runs/, a folder in Hugging Face's layout, a file of weights, or a name on the model hub
    /// [default: the newest run]
    #[arg(long, visible_alias = "model_path", value_name = "MODEL")]
    model: Option<PathBuf>,

    #[command(flatten)]
    known: model::Args,

    /// The prompt: the text to continue
    #[arg(long, visible_alias = "prompt", value_name = "TEXT", default_value = "Every effort moves you")]
    context: String,

    /// Number of tokens to generate
    #[arg(long, visible_aliases = ["max-tokens", "max_tokens"], value_name = "N", default_value_t = 100)]
    tokens: usize,

    /// Divisor of the logits: 0 selects the most likely token, 1 samples from the model's distribution, larger values
    /// flatten it [default: 0]
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,

    /// Sample only from the k most likely tokens, or from all if 0 (implies temperature 1 if none is given)
    #[arg(long, visible_alias = "k", value_name = "K", default_value_t = 0)]
    top_k: usize,

    /// Sample only from the most likely tokens whose total probability reaches this value (implies temperature 1 if
    /// none is given)
    #[arg(long, visible_alias = "p", value_name = "P", default_value_t = 1.0)]
    top_p: f32,

    /// Seed of the sampler
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,

    /// Keep only the end of a prompt that is longer than the model's context
    #[arg(long)]
    crop: bool,

    /// Past the context, drop this many of the oldest tokens at a time: 1 keeps the most context, larger values are
    /// faster
    #[arg(long, value_name = "N", default_value_t = 1)]
    slide: usize,

    /// Continue after a token that ends texts
    #[arg(long, visible_alias = "ignore-eos")]
    ignore_end: bool,

    #[command(flatten)]
    device: device::Args,

    /// Print one JSON object for programs
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let sampler = SamplerConfig {
        temperature: temperature(&args),
        top_k: args.top_k,
        top_p: args.top_p,
        seed: args.seed,
        ..SamplerConfig::default()
    };
    sampler.validate().map_err(UsageError::from)?;
    let path = runs::model_or_newest(args.model.as_deref())?;
    let (dev, _) = device::open(&args.device.config(), Workload::Inference)?;
    let (saved, tokenizer) = model::load_with_tokenizer(&dev, &path, args.known, "prompt", |config| {
        generation_bytes(config, 0, args.context.len().min(config.n_positions), args.tokens)
    })?;
    if args.model.is_none() && !args.json {
        note(&format!("model: {}{}", path.display(), runs::which_model(&path)));
    }
    let n_positions = saved.gpt.config.n_positions;
    let prompt = encode_prompt(&args, tokenizer.as_ref(), saved.bounds.begin, n_positions)?;
    let options = TextOptions {
        sampler,
        max_tokens: args.tokens,
        slide: args.slide,
        stop_at_end: !args.ignore_end,
        bounds: Some(saved.bounds.clone()),
    };
    let mut generation = TextGeneration::of_tokens(&dev, &saved.gpt, tokenizer.as_ref(), &prompt, &options)?;
    let phase = verbosity::phase("generating");
    let start = Instant::now();
    let print_text = |text: &str| if args.json { Ok(()) } else { print(text) };
    print_text(generation.prompt_text())?;
    while let Some(piece) = generation.next_piece()? {
        print_text(&piece)?;
    }
    print_text("\n")?;
    drop(phase);
    let (new_tokens, met_end) = (generation.new_tokens(), generation.met_end());
    let tokens_per_second = new_tokens.len() as f64 / start.elapsed().as_secs_f64();
    if args.json {
        let text: Vec<u32> =
            prompt.iter().chain(&new_tokens[..new_tokens.len() - usize::from(met_end)]).copied().collect();
        print_json(&serde_json::json!({
            "model": saved.path,
            "prompt": args.context,
            "text": tokenizer.decode(&text)?,
            "tokens": new_tokens,
            "end_of_text": met_end,
            "tokens_per_second": tokens_per_second,
        }))?;
    } else {
        note(&format!("{} tokens, {tokens_per_second:.0} tokens/s including the prompt", new_tokens.len()));
    }
    Ok(())
}

/// The requested temperature. The default is 0 (greedy), or 1 with top-k or top-p, which do not affect greedy decoding.
fn temperature(args: &Args) -> f32 {
    let filtered = args.top_k > 0 || args.top_p < 1.0;
    args.temperature.unwrap_or(if filtered { 1.0 } else { 0.0 })
}

/// The ids of the prompt. An empty one starts a new text with the id `begin`, if the model has one.
fn encode_prompt(args: &Args, tokenizer: &dyn Tokenizer, begin: Option<u32>, n_positions: usize) -> Result<Vec<u32>> {
    let mut prompt = tokenizer.encode(&args.context, Special::Allow).context("the prompt")?;
    if prompt.is_empty() {
        prompt.extend(begin);
    }

    if prompt.len() > n_positions {
        if !args.crop {
            bail!(WithHint::new(
                format!("the prompt has {} tokens, the model's context is {n_positions}", prompt.len()),
                "shorten it, or add --crop to keep only its end"
            ));
        }
        prompt.drain(..prompt.len() - n_positions);
    }
    Ok(prompt)
}
