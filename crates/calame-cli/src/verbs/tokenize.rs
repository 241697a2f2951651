//! `calame tokenize`: encodes text into token ids and decodes them.

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result};
use calame::tokenizer::{self, Special};

use crate::training::text::open_tokenizer;
use crate::ui::output::{UsageError, WithHint, grouped, print, print_json};
use crate::ui::verbosity;

/// Encode a text into token ids, decode ids, or count them.
#[derive(clap::Args, Debug)]
#[command(
    allow_negative_numbers = true,
    after_help = "Examples:
  calame tokenize \"Hello, do you like tea?\"
  calame tokenize --count --file story.txt
  echo 15496 11 466 | calame tokenize --decode"
)]
pub struct Args {
    /// The text (or, with --decode, ids separated by spaces or commas) [default: standard input]
    #[arg(conflicts_with = "file")]
    text: Option<String>,

    /// Read the text from a file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Decode ids into text
    #[arg(long, conflicts_with = "count")]
    decode: bool,

    /// Only count the tokens
    #[arg(long)]
    count: bool,

    /// Tokenizer: gpt2, a tokenizer.json, or a run or model that has one
    #[arg(long, value_name = "TOKENIZER", default_value = "gpt2")]
    tokenizer: String,

    /// Encode special tokens such as <|endoftext|> in the text as their ids; otherwise they are an error
    #[arg(long)]
    allow_special: bool,

    /// Encode special tokens in the text as ordinary text
    #[arg(long, conflicts_with = "allow_special")]
    special_as_text: bool,

    /// Print one JSON object for programs
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let tokenizer = open_tokenizer(&args.tokenizer)?;
    let input = read_input(&args)?;
    if args.decode {
        let ids = parse_ids(&input)?;
        let text = tokenizer.decode(&ids)?;
        if args.json {
            print_json(&serde_json::json!({ "ids": ids, "n_tokens": ids.len(), "text": text }))?;
        } else {
            print(&format!("{text}\n"))?;
        }
        return Ok(());
    }
    let special = match (args.allow_special, args.special_as_text) {
        (true, _) => Special::Allow,
        (_, true) => Special::AsText,
        _ => Special::Forbid,
    };
    let ids = tokenizer.encode(&input, special).map_err(|e| {
        let hint = "--allow-special encodes special tokens as their ids, --special-as-text as ordinary text";
        match e {
            tokenizer::TokenizerError::ForbiddenSpecial { .. } => anyhow::Error::new(WithHint::new(e, hint)),
            other => other.into(),
        }
    })?;
    match (args.json, args.count) {
        (true, true) => print_json(&serde_json::json!({ "n_tokens": ids.len(), "n_bytes": input.len() }))?,
        (true, false) => print_json(&serde_json::json!({ "ids": ids, "n_tokens": ids.len() }))?,
        (false, true) => print(&format!(
            "{} tokens, {} characters, {:.2} bytes per token\n",
            grouped(ids.len() as u64),
            grouped(input.chars().count() as u64),
            input.len() as f64 / ids.len().max(1) as f64
        ))?,
        (false, false) => {
            let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
            print(&format!("{}\n", ids.join(" ")))?;
        }
    }
    Ok(())
}

fn read_input(args: &Args) -> Result<String> {
    if let Some(file) = &args.file {
        verbosity::opened(file);
    }
    let (bytes, name) = match (&args.text, &args.file) {
        (Some(text), _) => return Ok(text.clone()),
        (None, Some(file)) => (
            std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?,
            file.display().to_string(),
        ),
        (None, None) => {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
            (bytes, "standard input".to_owned())
        }
    };
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        WithHint::new(format!("{name} is not UTF-8 (at byte {at})"), "convert it to UTF-8 first").into()
    })
}

fn parse_ids(text: &str) -> Result<Vec<u32>> {
    text.split(|c: char| c.is_whitespace() || c == ',')
        .filter(|word| !word.is_empty())
        .map(|word| {
            word.parse().map_err(|_| {
                UsageError(format!("'{word}' is not a token id: expected whole numbers, such as 15496 11 466")).into()
            })
        })
        .collect()
}
