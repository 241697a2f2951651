//! `calame tokenizer`: trains a tokenizer on texts.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use calame::data::documents::Meter;
use calame::data::prepare::Texts;
use calame::data::{DocumentError, ReadOptions, ReadReport, Sources};
use calame::files::{FileError, PathLock, create_file, read_text_at_most, replace_bytes};
use calame::tokenizer::{self, Bpe, Encoder, Special, Tokenizer};
use clap::Subcommand;
use serde_json::json;

use crate::training::memory;
use crate::training::reading::print_report;
use crate::ui::output::{count, duration, grouped, note, print, print_json, quoted, size};
use crate::ui::{invocation, progress, verbosity};
use crate::verbs::data::DocumentArgs;
use crate::verbs::outputs;

/// Train a tokenizer on your own texts.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    Train(TrainArgs),
}

/// Train a byte-level BPE on documents and compare it with GPT-2's on the same text.
///
/// The vocabulary always includes the 256 bytes and <|endoftext|>. The distinct words and their counts are held in
/// memory. If there is more text than --max-bytes, a sample of that size is used: pieces at even distances.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  calame tokenizer train books/ --vocab-size 8192 --out tokenizer.json
  calame tokenizer train 'pages/*.jsonl' --vocab-size 32000 --out tokenizer/
  calame data prepare books/ --tokenizer tokenizer.json --out prepared
  calame train --preset tiny --data books/ --set tokenizer.kind=tokenizer.json")]
struct TrainArgs {
    #[command(flatten)]
    documents: DocumentArgs,

    /// Size of the vocabulary, at least 257 tokens
    #[arg(long, value_name = "N")]
    vocab_size: usize,

    /// File to write, or folder in which tokenizer.json is written
    #[arg(long, value_name = "PATH")]
    out: PathBuf,

    /// Occurrences that a pair needs to be merged
    #[arg(long, value_name = "N", default_value_t = 2)]
    min_frequency: u64,

    /// Most bytes of text to train on
    // The crate counts pairs in signed 32-bit integers.
    #[arg(long, value_name = "N", default_value_t = 256 << 20, value_parser = clap::value_parser!(u64).range(1..=i32::MAX as u64))]
    max_bytes: u64,

    /// Replace an existing tokenizer of calame
    #[arg(long)]
    overwrite: bool,

    /// Print one JSON object for programs
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let Verb::Train(args) = args.verb;
    train(&args).map(|()| ExitCode::SUCCESS)
}

/// Says why a tokenizer has fewer tokens than were asked for.
fn note_few_tokens(n_vocab: usize, args: &TrainArgs) {
    if n_vocab < args.vocab_size {
        note(&format!(
            "note: {} tokens, not {}: no other pair occurs {} or more in the text; give more text, or --min-frequency 1",
            grouped(n_vocab as u64),
            grouped(args.vocab_size as u64),
            count(args.min_frequency as usize, "time")
        ));
    }
}

fn train(args: &TrainArgs) -> Result<()> {
    let started = Instant::now();
    let is_folder = args.out.is_dir() || args.out.extension().is_none();
    let file = if is_folder { args.out.join("tokenizer.json") } else { args.out.clone() };
    // Held until the end, so that a second training of the same tokenizer is refused before it begins.
    let _lock = PathLock::acquire(&file)?;
    outputs::check(&file, Some(("--overwrite", args.overwrite)), foreign_tokenizer)?;
    let sources = args.documents.sources()?;
    let options = args.documents.reading.options();
    let bar = progress::bar(None, "{spinner} {msg}", args.json)?;
    bar.set_message("counting words");
    let phase = verbosity::phase("counting words and merging pairs");
    let (n_bytes, report) = measure(&sources, &options)?;
    bar.suspend(|| print_report(&report));
    let share = args.max_bytes as f64 / n_bytes.max(1) as f64;
    // Distinct words are a part of the text, each with its bytes, its count and its merges.
    let sample_bytes = n_bytes.min(args.max_bytes).saturating_mul(2);
    memory::require("the training", sample_bytes, "train on less of the text, by --max-bytes")?;
    let mut sample = Sample::new(&sources, &options, share);
    let trained = tokenizer::train(&mut sample, args.vocab_size, args.min_frequency);
    if let Some(error) = sample.error {
        return Err(error.into());
    }
    let trained = trained?;
    drop(phase);
    let phase = verbosity::phase("comparing with GPT-2's tokenizer");
    bar.set_message("comparing with GPT-2's");
    let comparison = compare(&sources, &options, share, trained.as_ref())?;
    bar.finish_and_clear();
    drop(phase);
    write(&file, &trained.to_json(), args.overwrite)?;
    note_few_tokens(trained.n_vocab(), args);
    let per_token = |n_tokens: u64| comparison.n_bytes as f64 / n_tokens.max(1) as f64;
    let (own, gpt2) = (per_token(comparison.n_own), per_token(comparison.n_gpt2));
    if args.json {
        return print_json(&json!({
            "event": "result",
            "tokenizer": file,
            "sha256": trained.hash(),
            "n_vocab": trained.n_vocab(),
            "n_bytes": comparison.n_bytes,
            "n_bytes_in_all": n_bytes,
            "bytes_a_token": own,
            "gpt2_bytes_a_token": gpt2,
            "seconds": started.elapsed().as_secs_f64(),
        }));
    }
    print(&format!(
        "tokenizer {}, {} tokens\ntrained   on {} of {} in {}\nbytes     {own:.3} per token on this text; GPT-2's {} tokens: {gpt2:.3}\nnext      {}\n",
        file.display(),
        grouped(trained.n_vocab() as u64),
        size(comparison.n_bytes),
        size(n_bytes),
        duration(started.elapsed().as_secs_f64()),
        grouped(Bpe::gpt2().n_vocab() as u64),
        invocation::command(&format!("data prepare … --tokenizer {}", quoted(&file.display().to_string())))
    ))
}

fn write(file: &Path, json: &str, overwrite: bool) -> Result<()> {
    match overwrite {
        true => replace_bytes(file, json.as_bytes())?,
        false => create_file(file, |out| out.write_all(json.as_bytes()).map_err(FileError::new("write", file)))?,
    }
    Ok(())
}

/// Why a file is not a tokenizer that calame has written: from one of its own, the same file would be written again.
fn foreign_tokenizer(path: &Path) -> Option<String> {
    let text = read_text_at_most(path, tokenizer::MAX_FILE_BYTES).unwrap_or_default();
    let is_own = tokenizer::read_json(&text, path).is_ok_and(|tokenizer| tokenizer.to_json() == text);
    (!is_own).then(|| "it is not a tokenizer that calame has written".to_owned())
}

/// The bytes of text in all documents, and what was noticed in them.
fn measure(sources: &Sources, options: &ReadOptions) -> Result<(u64, ReadReport), DocumentError> {
    let mut texts = Texts::new(sources, options, Meter::default());
    let mut n_bytes = 0;
    while let Some(text) = texts.next_text()? {
        n_bytes += text.len() as u64;
    }
    let report = texts.report();
    report.require_documents(sources.files.len())?;
    Ok((n_bytes, report))
}

/// A sample of a text: pieces at even distances, from the first, up to a share of the whole.
struct Sample<'a> {
    texts: Texts<'a>,
    share: f64,
    /// Bytes of the pieces so far, and of those among them that are in the sample.
    n_seen: u64,
    n_taken: u64,
    /// The error that has ended the sample, if any.
    error: Option<DocumentError>,
}

impl<'a> Sample<'a> {
    fn new(sources: &'a Sources, options: &'a ReadOptions, share: f64) -> Sample<'a> {
        Sample {
            texts: Texts::new(sources, options, Meter::default()),
            share: share.min(1.0),
            n_seen: 0,
            n_taken: 0,
            error: None,
        }
    }
}

impl Iterator for Sample<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        loop {
            match self.texts.next_text() {
                Ok(text) => {
                    let text = text?;
                    let is_due = self.n_taken as f64 <= self.n_seen as f64 * self.share;
                    self.n_seen += text.len() as u64;
                    if is_due {
                        self.n_taken += text.len() as u64;
                        return Some(text);
                    }
                }
                Err(error) => {
                    self.error = Some(error);
                    return None;
                }
            }
        }
    }
}

/// The bytes of a text, and the tokens that two tokenizers encode them into.
#[derive(Default)]
struct Comparison {
    n_bytes: u64,
    n_own: u64,
    n_gpt2: u64,
}

fn compare(sources: &Sources, options: &ReadOptions, share: f64, own: &dyn Tokenizer) -> Result<Comparison> {
    let gpt2 = Bpe::gpt2();
    let (mut own, mut gpt2) = (Encoder::new(own), Encoder::new(gpt2.as_ref()));
    let (mut comparison, mut ids) = (Comparison::default(), Vec::new());
    let mut sample = Sample::new(sources, options, share);
    for text in &mut sample {
        comparison.n_bytes += text.len() as u64;
        for (encoder, n_tokens) in [(&mut own, &mut comparison.n_own), (&mut gpt2, &mut comparison.n_gpt2)] {
            ids.clear();
            encoder.encode(&text, Special::AsText, &mut ids)?;
            *n_tokens += ids.len() as u64;
        }
    }
    match sample.error {
        Some(error) => Err(error.into()),
        None => Ok(comparison),
    }
}
