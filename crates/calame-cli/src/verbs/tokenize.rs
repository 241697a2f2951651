//! `calame tokenize`: encodes text into token ids and decodes them.

use std::io::{self, Read};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use calame::data::{ReadOptions, SpecialTokens};
use calame::files::read_text_at_most;
use calame::tokenizer::{self, Special, Tokenizer};
use clap::ValueEnum;

use crate::training::memory;
use crate::training::text::{self, open_tokenizer};
use crate::ui::output::{UsageError, WithHint, grouped, print, print_json};

/// Encode a text into token ids, decode ids, or count them.
#[derive(clap::Args, Debug)]
#[command(
    allow_negative_numbers = true,
    after_help = "Examples:
  calame tokenize \"Hello, do you like tea?\"
  calame tokenize --count --file story.txt
  calame tokenize --count --file pages.jsonl --special-tokens ids
  echo 15496 11 466 | calame tokenize --decode"
)]
pub struct Args {
    /// The text (or, with --decode, ids separated by spaces or commas) [default: standard input]
    #[arg(conflicts_with = "file")]
    text: Option<String>,

    /// Read the documents of a file, as calame train does (.txt, .md, .jsonl, also compressed; .parquet)
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Field of a line of JSON, or column of a .parquet file, that has the text
    #[arg(long, value_name = "NAME", default_value = "text", requires = "file")]
    field: String,

    /// Decode ids into text
    #[arg(long, conflicts_with = "count")]
    decode: bool,

    /// Only count the tokens
    #[arg(long)]
    count: bool,

    /// Tokenizer: gpt2, a tokenizer.json, or a run or model that has one
    #[arg(long, value_name = "TOKENIZER", default_value = "gpt2")]
    tokenizer: String,

    /// What special tokens such as <|endoftext|> in the text are: an error, as in tiktoken; ids, as in calame train; or
    /// text
    #[arg(long, value_name = "WHAT", value_enum, default_value = "error")]
    special_tokens: SpecialChoice,

    /// The same as --special-tokens ids
    #[arg(long, hide = true, conflicts_with = "special_tokens")]
    allow_special: bool,

    /// The same as --special-tokens text
    #[arg(long, hide = true, conflicts_with_all = ["special_tokens", "allow_special"])]
    special_as_text: bool,

    /// Print one JSON object for programs
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SpecialChoice {
    Error,
    Ids,
    Text,
}

/// The tokens of a text, and its size.
struct Encoded {
    ids: Vec<u32>,
    n_bytes: usize,
    n_characters: usize,
}

pub fn run(args: Args) -> Result<()> {
    let tokenizer = open_tokenizer(&args.tokenizer)?;
    if args.decode {
        let ids = parse_ids(&read_ids(&args)?)?;
        let text = tokenizer.decode(&ids)?;
        if args.json {
            print_json(&serde_json::json!({ "ids": ids, "n_tokens": ids.len(), "text": text }))?;
        } else {
            print(&format!("{text}\n"))?;
        }
        return Ok(());
    }
    let special = match (args.allow_special, args.special_as_text, args.special_tokens) {
        (true, ..) | (_, _, SpecialChoice::Ids) => Special::Allow,
        (_, true, _) | (_, _, SpecialChoice::Text) => Special::AsText,
        _ => Special::Forbid,
    };
    let Encoded { ids, n_bytes, n_characters } = encode(&args, tokenizer.as_ref(), special)?;
    match (args.json, args.count) {
        (true, true) => print_json(&serde_json::json!({ "n_tokens": ids.len(), "n_bytes": n_bytes }))?,
        (true, false) => print_json(&serde_json::json!({ "ids": ids, "n_tokens": ids.len() }))?,
        (false, true) => print(&format!(
            "{} tokens, {} characters, {:.2} bytes per token\n",
            grouped(ids.len() as u64),
            grouped(n_characters as u64),
            n_bytes as f64 / ids.len().max(1) as f64
        ))?,
        (false, false) => {
            let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
            print(&format!("{}\n", ids.join(" ")))?;
        }
    }
    Ok(())
}

/// Encodes the text of the arguments, of a file or of standard input.
fn encode(args: &Args, tokenizer: &dyn Tokenizer, special: Special) -> Result<Encoded> {
    let Some(file) = &args.file else {
        let text = read_text(args)?;
        let ids = tokenizer.encode(&text, special).map_err(with_hint)?;
        return Ok(Encoded { ids, n_bytes: text.len(), n_characters: text.chars().count() });
    };
    let special_tokens = if special == Special::AsText { SpecialTokens::Text } else { SpecialTokens::Ids };
    let (field, column) = (args.field.clone(), args.field.clone());
    let options = ReadOptions { field, column, special_tokens, ..ReadOptions::default() };
    let corpus = text::load(&[file.display().to_string()], &options)?;
    if special == Special::Forbid {
        tokenizer.encode(corpus.text(), special).map_err(with_hint)?;
    }
    let ids = corpus.encode_all(tokenizer)?;
    Ok(Encoded { ids, n_bytes: corpus.text().len(), n_characters: corpus.n_characters() })
}

fn with_hint(error: tokenizer::TokenizerError) -> anyhow::Error {
    let hint = "--special-tokens ids encodes special tokens as their ids, --special-tokens text as ordinary text";
    match error {
        tokenizer::TokenizerError::ForbiddenSpecial { .. } => WithHint::new(error, hint).into(),
        other => other.into(),
    }
}

fn read_text(args: &Args) -> Result<String> {
    if let Some(text) = &args.text {
        return Ok(text.clone());
    }
    let bytes = read_standard_input(memory::max_text_bytes())?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        WithHint::new(format!("standard input is not UTF-8 (at byte {at})"), "convert it to UTF-8 first")
    })?;
    // As in a file, a byte order mark is no part of the text.
    Ok(text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned))
}

/// The ids to decode, which are no documents.
fn read_ids(args: &Args) -> Result<String> {
    match &args.file {
        Some(file) => Ok(read_text_at_most(file, memory::max_text_bytes())?),
        None => read_text(args),
    }
}

/// All of standard input, which may never end.
fn read_standard_input(limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(limit + 1).read_to_end(&mut bytes);
    read.context("cannot read standard input")?;
    if bytes.len() as u64 > limit {
        let hint = "give a shorter text, or use `calame data prepare`, which reads files of any size";
        bail!(WithHint::new(format!("standard input has more than {limit} bytes, which do not fit into memory"), hint));
    }
    Ok(bytes)
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
