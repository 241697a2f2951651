//! `calame export`: writes a model in another program's format.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use calame::device::Workload;
use calame::files::PathLock;
use calame::formats::{
    ModelFile, OnnxCheck, find_model, not_an_export, verify_narrowed, verify_onnx, write_gguf_as,
    write_hugging_face_as, write_onnx, write_torch,
};
use calame::model::{ModelConfig, logits_by_parts};
use calame::ops::{self, Device};
use calame::plan::export_bytes;
use calame::quant::NumberFormat;
use calame::tensor::Tensor;
use calame::tokenizer::{Bpe, Tokenizer};

use crate::net::hub;
use crate::training::{device, memory, model};
use crate::ui::output::{UsageError, WithHint, grouped, print, print_json, size};
use crate::ui::spelling;
use crate::ui::verbosity;
use crate::verbs::outputs;

/// Number of prompt tokens used to compare the written file with the model.
const PROMPT_TOKENS: usize = 16;
/// The largest accepted difference of logits. The weights and the code are the same, so a larger one means a damaged
/// file.
const TOLERANCE: f32 = 1e-3;

/// Write a model in another format, read it back and compare its logits.
///
/// The model is converted one tensor at a time, so even a large model needs little memory. An existing file at --out is
/// replaced only with --force, only if calame has written it, and only once the new file is complete.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  # for llama.cpp, with half the bytes
  calame export runs/2026-11-23-book --to gguf --outtype f16
  # for PyTorch and the book's GPTModel
  calame export runs/2026-11-23-book --to pt --out gpt-model.pt
  # a folder for transformers
  calame export gpt-model.pt --to hf --out my-gpt
  # a folder for onnxruntime
  calame export runs/2026-11-23-book --to onnx")]
pub struct Args {
    /// A run or its name under runs/, a folder in Hugging Face's layout, a file of weights, or a name on the model hub
    model: PathBuf,

    #[command(flatten)]
    known: model::Args,

    /// Format of the exported model
    #[arg(long, value_enum, value_name = "FORMAT", ignore_case = true)]
    to: To,

    /// Format of the numbers: f32; f16 or bf16 for safetensors and gguf; for gguf also q8_0, q6_k, q5_k, q5_0, q5_1, q4_k,
    /// q4_0, q4_1, q3_k, q2_k, iq4_nl, iq4_xs, tq2_0 or tq1_0
    #[arg(long, value_parser = spelling::number_format, value_name = "TYPE", default_value = "f32", visible_alias = "dtype")]
    outtype: NumberFormat,

    /// Output file, or output folder for safetensors and onnx [default: named after the model, in the current folder]
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,

    /// Replace an existing export of calame at --out
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
    /// A folder in Hugging Face's layout, for transformers: config.json, model.safetensors, tokenizer.json (also: hf,
    /// huggingface)
    #[value(aliases = ["hf", "huggingface", "hugging-face", "hugging_face", "transformers", "safetensor"])]
    Safetensors,
    /// A PyTorch state_dict with the book's parameter names, for torch.load and GPTModel.load_state_dict (also: pytorch)
    #[value(aliases = ["pytorch", "torch", "pth", "book"])]
    Pt,
    /// A file for llama.cpp, including the tokenizer (also: llama.cpp)
    #[value(aliases = ["llama.cpp", "llamacpp", "llama-cpp", "llama_cpp", "ggml", "ollama"])]
    Gguf,
    /// A folder for onnxruntime: the weights, and a graph whose inputs and outputs include the KV cache (also:
    /// onnxruntime)
    #[value(aliases = ["onnxruntime", "onnx-runtime", "ort"])]
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

    /// The suffix of the default path.
    fn suffix(self) -> &'static str {
        match self {
            To::Safetensors => "-safetensors",
            To::Pt => ".pt",
            To::Gguf => ".gguf",
            To::Onnx => "-onnx",
        }
    }
}

/// Checks that the format can hold numbers of that kind.
fn check_outtype(args: &Args) -> Result<()> {
    if args.outtype.block_len() > 1 && args.to != To::Gguf {
        let message = format!(
            "--outtype {} is a format of GGUF files: use it with --to gguf",
            args.outtype.name().to_lowercase()
        );
        bail!(UsageError(message));
    }
    if args.outtype != NumberFormat::F32 && matches!(args.to, To::Pt | To::Onnx) {
        let message = format!(
            "--outtype {} was given, but --to {} writes f32 only",
            args.outtype.name().to_lowercase(),
            args.to.name()
        );
        bail!(WithHint::usage(message, "leave it out, or export to safetensors or gguf"));
    }
    Ok(())
}

pub fn run(args: &Args) -> Result<()> {
    let (dev, _) = device::open(&args.device.config(), Workload::Inference)?;
    check_outtype(args)?;
    let path = hub::resolve(&args.model)?;
    let out = args.out.clone().map_or_else(|| Ok(default_out(&find_model(&path)?, args.to)), anyhow::Ok)?;
    // Held until the written file has been compared: no other program replaces it before.
    let _lock = PathLock::acquire(&out)?;
    outputs::check(&out, Some(("--force", args.force)), not_an_export)?;
    let model = model::open(&path, args.known)?;
    if contains(&out, model.path()) {
        bail!(WithHint::new(
            format!("{} is the model to be exported, and is not replaced", out.display()),
            "choose another --out"
        ));
    }
    let needed = export_bytes(model.config(), PROMPT_TOKENS, device::processor(&dev));
    memory::require("the export", needed, "export a smaller model")?;
    let left_out =
        model.tokenizer_error().map(|error| format!("the tokenizer is left out, it cannot be used: {error}"));
    let notes = model.notes().iter().cloned().chain(left_out).chain(write(&model, args, &out)?);
    let notes: Vec<String> = notes.collect();
    let checked = check(&dev, &model, args, &out)
        .with_context(|| format!("{} was written, but checking it failed", out.display()))?;
    let bytes = size_on_disk(&out)?;
    if args.json {
        return print_json(&serde_json::json!({
            "model": model.path(), "to": args.to.name(), "outtype": args.outtype.name().to_lowercase(), "out": out, "bytes": bytes, "notes": notes,
            "n_parameters": model.config().n_parameters(), "largest_difference": checked.difference(),
        }));
    }
    let mut text = format!(
        "written  {} ({}{}, {} parameters, {})\n",
        out.display(),
        args.to.name(),
        if args.outtype == NumberFormat::F32 {
            String::new()
        } else {
            format!(" in {}", args.outtype.name().to_lowercase())
        },
        grouped(model.config().n_parameters() as u64),
        size(bytes)
    );
    for note in &notes {
        text += &format!("note     {note}\n");
    }
    print(&format!("{text}ok       read back: {checked}\n"))
}

/// The result of comparing the written file with the model.
enum Checked {
    /// The largest difference between logits, and the number of tokens compared.
    Logits(f32, usize),
    /// The graph and every weight are identical to the model's.
    Identical(OnnxCheck),
}

impl Checked {
    fn difference(&self) -> f32 {
        match self {
            Checked::Logits(difference, _) => *difference,
            Checked::Identical(_) => 0.0,
        }
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Checked::Logits(difference, n) => write!(f, "logits of {n} tokens differ by at most {difference:.1e}"),
            Checked::Identical(OnnxCheck { n_nodes, n_parameters }) => write!(
                f,
                "the graph has the model's {n_nodes} operations, and all {} parameters are bit-identical",
                grouped(*n_parameters as u64)
            ),
        }
    }
}

fn check(dev: &Device, model: &ModelFile, args: &Args, out: &Path) -> Result<Checked> {
    match args.to {
        // calame cannot run ONNX graphs; the scripts in golden/ run them.
        To::Onnx => Ok(Checked::Identical(verify_onnx(out, model)?)),
        _ => {
            let difference = compare(dev, model, args.outtype, out)?;
            Ok(Checked::Logits(difference, prompt(model.config()).len()))
        }
    }
}

/// Writes the file or folder. Returns notes on what the format cannot store.
fn write(model: &ModelFile, args: &Args, out: &Path) -> Result<Vec<String>> {
    let _phase = verbosity::phase("writing the model");
    let format = args.outtype;
    match args.to {
        To::Safetensors => write_hugging_face_as(out, model, format)?,
        To::Pt => {
            let mut notes = write_torch(out, model)?;
            // Readers of a .pt assume GPT-2's tokenizer.
            if model.tokenizer().is_some_and(|t| t.hash() != Bpe::gpt2().hash()) {
                notes.push(
                    "a .pt file cannot store the tokenizer: put the model's tokenizer.json in the same folder"
                        .to_owned(),
                );
            }
            return Ok(notes);
        }
        To::Gguf => return Ok(write_gguf_as(out, model, format)?),
        To::Onnx => write_onnx(out, model)?,
    }
    Ok(Vec::new())
}

/// Returns the largest difference between the logits of the model and those of the written file.
///
/// # Errors
/// If the shapes differ, or the difference is larger than [`TOLERANCE`]; for 16 bits, if a weight is not the model's,
/// rounded.
fn compare(dev: &Device, model: &ModelFile, format: NumberFormat, out: &Path) -> Result<f32> {
    let _phase = verbosity::phase("reading the model back");
    let back = ModelFile::open(out)?;
    let (expected_config, found_config) = (model.config(), back.config());
    let same_shape =
        ModelConfig { dropout: expected_config.dropout, init: expected_config.init, ..found_config.clone() }
            == *expected_config;
    if !same_shape {
        bail!("the written model has the shape {found_config:?}, expected {expected_config:?}");
    }
    if format != NumberFormat::F32 {
        verify_narrowed(&back, model, format)?;
    }
    let ids = prompt(expected_config);
    let (expected, found) = (logits(dev, model, &ids)?, logits(dev, &back, &ids)?);
    let (expected, found) = (ops::read(dev, &expected), ops::read(dev, &found));
    let pairs = expected.iter().zip(&found);
    // A NaN counts as a difference.
    let difference =
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0f32, |max, d| if d > max || d.is_nan() { d } else { max });
    // What rounding every weight changes has no limit that fits all models.
    if (difference > TOLERANCE && format == NumberFormat::F32) || difference.is_nan() {
        bail!("the logits of the written model differ by {difference}");
    }
    Ok(difference)
}

fn logits(dev: &Device, model: &ModelFile, ids: &[u32]) -> Result<Tensor> {
    let config = model.config().clone();
    Ok(logits_by_parts(dev, &config, ids, |name, tensor| model.read(name, tensor))?)
}

/// Token ids spread over the vocabulary.
fn prompt(config: &ModelConfig) -> Vec<u32> {
    (0..PROMPT_TOKENS.min(config.n_positions)).map(|i| (i * 7919 % config.vocab_size) as u32).collect()
}

/// Whether `path` is `outer` or below it.
fn contains(outer: &Path, path: &Path) -> bool {
    match (outer.canonicalize(), path.canonicalize()) {
        (Ok(outer), Ok(path)) => path.starts_with(outer),
        _ => false,
    }
}

/// The default path: the model's name with the suffix of the format, in the current folder.
fn default_out(model: &Path, to: To) -> PathBuf {
    let named = if model.file_name() == Some(OsStr::new("model")) { model.parent().unwrap_or(model) } else { model };
    let mut name =
        if named.is_dir() { named.file_name() } else { named.file_stem() }.unwrap_or(OsStr::new("model")).to_owned();
    name.push(to.suffix());
    PathBuf::from(name)
}

/// The size of a file, or of all files in a folder.
fn size_on_disk(path: &Path) -> Result<u64> {
    if path.is_file() {
        return Ok(path.metadata()?.len());
    }
    std::fs::read_dir(path)?.try_fold(0, |sum, entry| Ok(sum + entry?.metadata()?.len()))
}
