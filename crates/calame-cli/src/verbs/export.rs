//! `calame export`: a model in another program's format.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use calame::checkpoint::{ModelFile, OnnxCheck, verify_onnx, write_gguf, write_hugging_face, write_onnx, write_torch};
use calame::device::Workload;
use calame::model::{ModelConfig, logits_by_parts};
use calame::ops::{self, Device};
use calame::tensor::Tensor;
use calame::tokenizer::{Bpe, Tokenizer};

use crate::net::hub;
use crate::training::device;
use crate::ui::output::{WithHint, grouped, print, print_json, size};

/// Tokens of the prompt on which the written file is compared with the model.
const PROMPT_TOKENS: usize = 16;
/// The same weights by the same program: what is more is a damaged file.
const TOLERANCE: f32 = 1e-3;

/// Write a model in another format, read it back and compare its logits.
///
/// The model goes through tensor by tensor, so that a large one takes little memory. What stood at --out stands until the
/// new file is complete; it is only replaced with --force.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  calame export runs/2026-11-23-book --to gguf                    for llama.cpp
  calame export runs/2026-11-23-book --to pt --out gpt-model.pt   for PyTorch and the book's GPTModel
  calame export gpt-model.pt --to safetensors --out my-gpt        a folder for transformers
  calame export runs/2026-11-23-book --to onnx                    a folder for onnxruntime")]
pub struct Args {
    /// A run, a folder in Hugging Face's layout, or a file of weights
    model: PathBuf,

    /// The format
    #[arg(long, value_enum)]
    to: To,

    /// File, or folder for safetensors and onnx [default: the model's name, here]
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,

    /// Replace what stands at --out
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    device: device::Args,

    /// Print one JSON object for programs
    #[arg(long)]
    json: bool,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    /// Hugging Face's folder: config.json, model.safetensors, tokenizer.json
    Safetensors,
    /// PyTorch's state_dict under the book's names: torch.load and GPTModel.load_state_dict take it
    Pt,
    /// llama.cpp's file, with the tokenizer inside
    Gguf,
    /// A folder for onnxruntime: the graph with its KV cache as inputs and outputs, weights beside it
    Onnx,
}

impl To {
    fn name(self) -> &'static str {
        match self {
            To::Safetensors => "safetensors",
            To::Pt => "pt",
            To::Gguf => "gguf",
            To::Onnx => "onnx",
        }
    }

    /// What the default path ends with.
    fn ending(self) -> &'static str {
        match self {
            To::Safetensors => "-safetensors",
            To::Pt => ".pt",
            To::Gguf => ".gguf",
            To::Onnx => "-onnx",
        }
    }
}

pub fn run(args: &Args) -> Result<()> {
    let (dev, _) = device::open(&args.device.config(), Workload::Inference)?;
    let model = ModelFile::open(&hub::resolve(&args.model)?)?;
    let out = args.out.clone().unwrap_or_else(|| default_out(model.path(), args.to));
    if out.exists() && !args.force {
        bail!(WithHint::new(format!("{} exists", out.display()), "give another --out, or --force to replace it"));
    }
    let notes: Vec<String> = model.notes().iter().cloned().chain(write(&model, args.to, &out)?).collect();
    let checked = check(&dev, &model, args.to, &out)
        .with_context(|| format!("{} was written, but cannot be read back as it should", out.display()))?;
    let bytes = bytes_at(&out)?;
    if args.json {
        return print_json(&serde_json::json!({
            "model": model.path(), "to": args.to.name(), "out": out, "bytes": bytes, "notes": notes,
            "n_parameters": model.config().n_parameters(), "largest_difference": checked.difference(),
        }));
    }
    let mut text = format!(
        "written  {} ({}, {} parameters, {})\n",
        out.display(),
        args.to.name(),
        grouped(model.config().n_parameters() as u64),
        size(bytes)
    );
    for note in &notes {
        text += &format!("note     {note}\n");
    }
    print(&format!("{text}ok       read back: {checked}\n"))
}

/// How the file that was written compares with the model.
enum Checked {
    /// Largest difference of the logits of so many tokens.
    Logits(f32, usize),
    /// The graph is the model's, and so is every weight.
    Bits(OnnxCheck),
}

impl Checked {
    fn difference(&self) -> f32 {
        match self {
            Checked::Logits(difference, _) => *difference,
            Checked::Bits(_) => 0.0,
        }
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Checked::Logits(difference, n) => write!(f, "logits of {n} tokens differ by at most {difference:.1e}"),
            Checked::Bits(OnnxCheck { n_nodes, n_parameters }) => write!(
                f,
                "the model's graph of {n_nodes} operations, {} parameters the same to the bit",
                grouped(*n_parameters as u64)
            ),
        }
    }
}

fn check(dev: &Device, model: &ModelFile, to: To, out: &Path) -> Result<Checked> {
    match to {
        // calame does not run graphs: golden/ has programs that do.
        To::Onnx => Ok(Checked::Bits(verify_onnx(out, model)?)),
        _ => Ok(Checked::Logits(compare(dev, model, out)?, prompt(model.config()).len())),
    }
}

/// Writes the file or folder; what could not be written along is told.
fn write(model: &ModelFile, to: To, out: &Path) -> Result<Vec<String>> {
    match to {
        To::Safetensors => write_hugging_face(out, model)?,
        To::Pt => {
            write_torch(out, model)?;
            // Readers of a .pt take GPT-2's for granted.
            if model.tokenizer().is_some_and(|t| t.hash() != Bpe::gpt2().hash()) {
                return Ok(vec![
                    "a .pt has no room for the tokenizer: put the model's tokenizer.json beside it".to_owned(),
                ]);
            }
        }
        To::Gguf => return Ok(write_gguf(out, model)?),
        To::Onnx => write_onnx(out, model)?,
    }
    Ok(Vec::new())
}

/// The largest difference between the logits of the model and of the file that was written.
fn compare(dev: &Device, model: &ModelFile, out: &Path) -> Result<f32> {
    let back = ModelFile::open(out)?;
    let (was, is) = (model.config(), back.config());
    let same_shape = ModelConfig { dropout: was.dropout, init: was.init, ..is.clone() } == *was;
    if !same_shape {
        bail!("it has another shape: {is:?}, the model {was:?}");
    }
    let ids = prompt(was);
    let (expected, found) = (logits(dev, model, &ids)?, logits(dev, &back, &ids)?);
    let (expected, found) = (ops::read(dev, &expected), ops::read(dev, &found));
    let pairs = expected.iter().zip(&found);
    // A NaN is a difference too.
    let difference =
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0f32, |most, d| if d > most || d.is_nan() { d } else { most });
    if difference > TOLERANCE || difference.is_nan() {
        bail!("its logits differ by {difference}");
    }
    Ok(difference)
}

fn logits(dev: &Device, model: &ModelFile, ids: &[u32]) -> Result<Tensor> {
    let config = model.config().clone();
    Ok(logits_by_parts(dev, &config, ids, |name, tensor| model.read(name, tensor))?)
}

/// Tokens spread over the vocabulary.
fn prompt(config: &ModelConfig) -> Vec<u32> {
    (0..PROMPT_TOKENS.min(config.n_positions)).map(|i| (i * 7919 % config.vocab_size) as u32).collect()
}

/// The model's name with the format's ending, in the current folder.
fn default_out(model: &Path, to: To) -> PathBuf {
    let named = if model.file_name() == Some(OsStr::new("model")) { model.parent().unwrap_or(model) } else { model };
    let mut name =
        if named.is_dir() { named.file_name() } else { named.file_stem() }.unwrap_or(OsStr::new("model")).to_owned();
    name.push(to.ending());
    PathBuf::from(name)
}

fn bytes_at(path: &Path) -> Result<u64> {
    if path.is_file() {
        return Ok(path.metadata()?.len());
    }
    std::fs::read_dir(path)?.try_fold(0, |sum, entry| Ok(sum + entry?.metadata()?.len()))
}
