//! `calame logits`: writes a model's logits, to compare them with another program's.

use std::path::PathBuf;

use anyhow::{Result, bail};
use calame::device::Workload;
use calame::formats::{not_logits, write_tensor};
use calame::ops;
use calame::plan::all_logits_bytes;

use crate::training::{device, model};
use crate::ui::output::{UsageError, WithHint, print, print_json};
use crate::ui::verbosity;
use crate::verbs::outputs;

/// Write a model's logits at every position of a sequence of token ids, to compare two programs.
///
/// The model needs no tokenizer.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  calame logits runs/2026-11-23-book --ids 15496,11,466 --out logits.safetensors")]
pub struct Args {
    /// A run or its name under runs/, a folder in Hugging Face's layout, a file of weights, or a name on the model hub
    model: PathBuf,

    #[command(flatten)]
    known: model::Args,

    /// Token ids, separated by commas
    #[arg(long, value_name = "IDS", required = true, value_delimiter = ',')]
    ids: Vec<u32>,

    /// File for the logits: safetensors, f32 [T, V] under the name `logits`; an earlier such file is replaced
    #[arg(long, value_name = "FILE", required_unless_present = "json")]
    out: Option<PathBuf>,

    #[command(flatten)]
    device: device::Args,

    /// Print one JSON line per position: {"position", "id", "logits"}
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let (dev, _) = device::open(&args.device.config(), Workload::Inference)?;
    if let Some(out) = &args.out {
        outputs::check(out, None, not_logits)?;
    }
    let n_tokens = args.ids.len();
    let saved = model::load_as_stored(&dev, &args.model, args.known, |config| {
        all_logits_bytes(config, n_tokens.min(config.n_positions), device::processor(&dev))
    })?;
    let config = &saved.gpt.config;
    if let Some(id) = args.ids.iter().find(|&&id| id as usize >= config.vocab_size) {
        bail!(UsageError(format!("--ids: {id} is not one of the model's {} tokens", config.vocab_size)));
    }
    if args.ids.len() > config.n_positions {
        bail!(WithHint::usage(
            format!("--ids: {} tokens, the model's context is {}", args.ids.len(), config.n_positions),
            "give fewer ids"
        ));
    }
    let phase = verbosity::phase("computing the logits");
    let logits = saved.gpt.logits(&dev, &args.ids, 1);
    drop(phase);
    if let Some(out) = &args.out {
        write_tensor(out, "logits", &logits)?;
    }
    if args.json {
        let logits = ops::read(&dev, &logits);
        for (position, (id, logits)) in args.ids.iter().zip(logits.chunks_exact(config.vocab_size)).enumerate() {
            print_json(&serde_json::json!({ "position": position, "id": id, "logits": logits }))?;
        }
    } else if let Some(out) = &args.out {
        print(&format!("logits [{}, {}] written to {}\n", args.ids.len(), config.vocab_size, out.display()))?;
    }
    Ok(())
}
