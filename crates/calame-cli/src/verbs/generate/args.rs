//! The flags of `calame generate`.

use std::path::PathBuf;

use crate::training::{device, model};
use crate::ui::spelling;

/// Continue prompts with a trained model.
///
/// The text is printed as it is generated. Decoding is greedy unless --temperature, --top-k, --top-p, --min-p or
/// --typical-p is given. Past the model's context, generation continues with a sliding window; a search with --beams
/// ends there.
#[derive(clap::Args, Debug)]
#[command(
    allow_negative_numbers = true,
    after_help = "Examples:
  # the newest run, greedy
  calame generate
  calame generate --model runs/2026-11-23-book --context \"I had always\"
  calame generate --temperature 0.8 --top-k 50 --top-p 0.9 --seed 7
  # four different continuations, each up to the end of a paragraph
  calame generate -n 4 --temperature 1 --stop \"\\n\\n\"
  # the most likely text that a search with eight beams finds
  calame generate --beams 8 --tokens 30
  # a prompt in each line, a JSON object for each text
  calame generate --prompts prompts.txt --json"
)]
pub struct Args {
    /// A run or its name under runs/, a folder in Hugging Face's layout, a file of weights, or a name on the model hub
    /// [default: the newest run]
    #[arg(long, visible_alias = "model_path", value_name = "MODEL")]
    pub model: Option<PathBuf>,

    #[command(flatten)]
    pub known: model::Args,

    /// The prompt: the text to continue; - reads it from standard input
    #[arg(long, visible_alias = "prompt", value_name = "TEXT", default_value = "Every effort moves you")]
    pub context: String,

    /// Continue each line of a file; - reads the lines from standard input
    #[arg(long, value_name = "FILE", conflicts_with = "context")]
    pub prompts: Option<PathBuf>,

    /// Number of tokens to generate
    #[arg(long, visible_aliases = ["max-tokens", "max_tokens"], value_name = "N", default_value_t = 100)]
    pub tokens: usize,

    /// Number of texts for each prompt
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub samples: u32,

    /// End a text before this string; may be repeated. \n and \t stand for a line end and a tab
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,

    /// Print the prompt before its continuation: always or never
    #[arg(long, value_name = "WHEN", default_value = "always", value_parser = ["always", "never"])]
    pub echo: String,

    /// Print the probability of each token, and those of the N most likely ones
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "0", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub logprobs: Option<u32>,

    /// Try up to N tokens at a time that followed the latest ones before: faster where a text repeats itself, and the
    /// text stays the same
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub draft: usize,

    /// Search for the most likely text with N beams, instead of choosing one token at a time; -n prints so many of the
    /// texts that were found
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256), conflicts_with_all = [
        "stop", "logprobs", "draft", "kv_memory", "temperature", "top_k", "top_p", "min_p", "typical_p", "slide", "seed",
    ])]
    pub beams: Option<u32>,

    /// Compare the texts of a search by log-probability divided by their length to this power: 0 prefers short texts
    #[arg(long, value_name = "X", default_value_t = 1.0, requires = "beams")]
    pub length_penalty: f32,

    /// Most memory for keys and values, such as 500MB: fewer texts are then generated at the same time; they stay the same
    /// [default: as much as up to 16 texts need]
    #[arg(long, value_name = "SIZE", value_parser = spelling::bytes)]
    pub kv_memory: Option<u64>,

    #[command(flatten)]
    pub sampling: SamplingArgs,

    /// Keep only the end of a prompt that is longer than the model's context
    #[arg(long)]
    pub crop: bool,

    /// Past the context, drop this many of the oldest tokens at a time: 1 keeps the most context, larger values are
    /// faster
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub slide: usize,

    /// Continue after a token that ends texts
    #[arg(long, visible_alias = "ignore-eos")]
    pub ignore_end: bool,

    #[command(flatten)]
    pub device: device::Args,

    /// Print a JSON object for each text, for programs
    #[arg(long)]
    pub json: bool,
}

/// The flags that say how tokens are drawn.
#[derive(clap::Args, Clone, Debug)]
#[group(skip)]
pub struct SamplingArgs {
    /// Divisor of the logits: 0 selects the most likely token, 1 samples from the model's distribution, larger values
    /// flatten it [default: 0]
    #[arg(long, value_name = "T")]
    pub temperature: Option<f32>,

    /// Sample only from the k most likely tokens, or from all if 0 (implies temperature 1 if none is given)
    #[arg(long, visible_alias = "k", value_name = "K", default_value_t = 0)]
    pub top_k: usize,

    /// Sample only from the most likely tokens whose total probability reaches this value (implies temperature 1 if
    /// none is given)
    #[arg(long, visible_alias = "p", value_name = "P", default_value_t = 1.0)]
    pub top_p: f32,

    /// Sample only from tokens with at least this share of the most likely one's probability (implies temperature 1 if
    /// none is given)
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub min_p: f32,

    /// Sample only from the tokens whose surprise is closest to the expected one and whose total probability reaches this
    /// value (implies temperature 1 if none is given)
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    pub typical_p: f32,

    /// Make tokens of the prompt and the text less likely, by dividing their logits: 1 changes nothing
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    pub repetition_penalty: f32,

    /// Subtract this from the logits of tokens that the new text contains
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    pub presence_penalty: f32,

    /// Subtract this from the logits of tokens for each time that the new text contains them
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    pub frequency_penalty: f32,

    /// Add to the logit of a token, by its id: --logit-bias 50256=-inf forbids it; may be repeated
    #[arg(long, value_name = "ID=X")]
    pub logit_bias: Vec<String>,

    /// Number of tokens before which a text does not end
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub min_tokens: usize,

    /// Seed of the sampler
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub seed: u64,
}
