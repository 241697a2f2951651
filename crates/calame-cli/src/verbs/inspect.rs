//! `calame inspect`: prints the contents of a model's files.

use std::path::{Path, PathBuf};

use anyhow::Result;
use calame::formats::{ModelFile, StoredTensor};
use calame::model::{ModelConfig, Preset};
use calame::tokenizer::TextBounds;
use serde_json::json;

use crate::training::model;
use crate::ui::output::{grouped, print, print_json, size};

/// Show a model's format, shape, tokenizer and tensors, without loading it.
///
/// Reads runs, Hugging Face folders (safetensors or pytorch_model.bin), PyTorch files of the book's and nanoGPT's
/// models, and all other formats that `--model` accepts.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  calame inspect runs/2026-11-23-book
  calame inspect gpt-model.pt
  calame inspect model.gguf --json")]
pub struct Args {
    /// A run or its name under runs/, a folder in Hugging Face's layout, a file of weights, or a name on the model hub
    model: PathBuf,

    #[command(flatten)]
    known: model::Args,

    /// Print one JSON object for programs
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let file = model::open(&args.model, args.known)?;
    if args.json { print_json(&as_json(&file)) } else { print(&as_text(&file)) }
}

fn as_json(file: &ModelFile) -> serde_json::Value {
    let tensors: Vec<serde_json::Value> = file
        .stored()
        .iter()
        .map(|t| json!({ "name": t.name, "shape": t.shape, "dtype": t.dtype, "bytes": t.file_bytes }))
        .collect();
    let tokenizer = file.tokenizer().map(|t| json!({ "kind": t.kind(), "n_vocab": t.n_vocab(), "sha256": t.hash() }));
    json!({
        "path": file.path(), "format": file.format().name(), "config": file.config(),
        "n_parameters": file.config().n_parameters(), "tokenizer": tokenizer,
        "tokenizer_error": file.tokenizer_error().map(ToString::to_string),
        "bos_token_id": file.bounds().begin, "eos_token_ids": file.bounds().ends,
        "notes": file.notes(), "tensors": tensors,
    })
}

fn as_text(file: &ModelFile) -> String {
    let config = file.config();
    let tensors = file.stored();
    let with = |yes: bool| if yes { "with" } else { "without" };
    let mut text = format!("{}\n\n", shown(file.path()));
    text += &format!("format      {}\n", file.format().name());
    text += &format!(
        "shape       {} blocks of {} channels in {} heads, context {}, vocabulary {}\n",
        config.n_layer,
        grouped(config.n_embd as u64),
        config.n_head,
        grouped(config.n_positions as u64),
        grouped(config.vocab_size as u64)
    );
    text += &format!(
        "            {} qkv bias, {}, dropout {}\n",
        with(config.has_qkv_bias()),
        if config.tied_head { "the head is the token embedding" } else { "a head of its own" },
        config.dropout
    );
    text += &unusual(config);
    text += &format!("parameters  {}\n", grouped(config.n_parameters() as u64));
    text += &match (file.tokenizer(), file.tokenizer_error()) {
        (Some(t), _) => format!("tokenizer   {}, {} tokens\n", t.kind(), grouped(t.n_vocab() as u64)),
        (None, Some(error)) => format!("tokenizer   cannot be used, so only token ids can be given: {error}\n"),
        (None, None) => "tokenizer   none: prompts cannot be encoded; give token ids\n".to_owned(),
    };
    text += &bounds(file.bounds());
    for note in file.notes() {
        text += &format!("note        {note}\n");
    }
    let bytes: u64 = tensors.iter().map(|t| t.file_bytes).sum();
    text += &format!("tensors     {}, {} total\n\n", grouped(tensors.len() as u64), size(bytes));
    text + &table(tensors)
}

/// A line with the ids that begin and end texts; nothing if there are none.
fn bounds(bounds: &TextBounds) -> String {
    let begin = bounds.begin.map(|id| format!("begin with id {id}"));
    let ids: Vec<String> = bounds.ends.iter().map(u32::to_string).collect();
    let end = (!ids.is_empty()).then(|| format!("end with id {}", ids.join(" or ")));
    let parts: Vec<String> = begin.into_iter().chain(end).collect();
    if parts.is_empty() { String::new() } else { format!("texts       {}\n", parts.join(", ")) }
}

/// A line with the settings in which the model differs from OpenAI's GPT-2; nothing if there is none.
fn unusual(config: &ModelConfig) -> String {
    let gpt2 = Preset::Gpt2.config();
    let mut settings = Vec::new();
    if !config.bias {
        settings.push("no biases".to_owned());
    }
    if config.n_inner.is_some() {
        settings.push(format!("MLP of {} channels", grouped(config.inner_size() as u64)));
    }
    if config.activation != gpt2.activation {
        settings.push(format!("activation {}", config.activation));
    }
    if config.layer_norm_epsilon != gpt2.layer_norm_epsilon {
        settings.push(format!("layer norm epsilon {:e}", config.layer_norm_epsilon));
    }
    if !config.scale_attn_weights {
        settings.push("scores of attention not scaled".to_owned());
    }
    if config.scale_attn_by_inverse_layer_idx {
        settings.push("scores of attention divided by the block's number".to_owned());
    }
    if settings.is_empty() { String::new() } else { format!("            {}\n", settings.join(", ")) }
}

/// One line per tensor: name, shape, number format, size in the file.
fn table(tensors: &[StoredTensor]) -> String {
    let shape = |t: &StoredTensor| format!("{:?}", t.shape);
    let width = |f: &dyn Fn(&StoredTensor) -> usize| tensors.iter().map(f).max().unwrap_or(0);
    let (names, shapes, dtypes) = (width(&|t| t.name.len()), width(&|t| shape(t).len()), width(&|t| t.dtype.len()));
    let line = |t: &StoredTensor| {
        format!("{:names$}  {:shapes$}  {:dtypes$}  {:>9}\n", t.name, shape(t), t.dtype, size(t.file_bytes))
    };
    tensors.iter().map(line).collect()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
