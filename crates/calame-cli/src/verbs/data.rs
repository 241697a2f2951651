//! `calame data`: prepares text of any size for training.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use calame::data::manifest::{MANIFEST, ShardEntry};
use calame::data::prepare::{PrepareOptions, Prepared, SplitBy, prepare};
use calame::data::{Manifest, ShardFormat, SourceKind, Sources, Split, find_sources};
use clap::{ArgAction, Subcommand, ValueEnum};
use serde_json::json;

use crate::net::download;
use crate::training::memory;
use crate::training::reading::{ReadingArgs, print_report};
use crate::training::signals::Signals;
use crate::training::text;
use crate::training::text::open_tokenizer;
use crate::ui::output::{WithHint, duration, grouped, note, print, print_json, quoted, size};
use crate::ui::preparation::Follower;
use crate::ui::{invocation, verbosity};

/// Prepare text of any size for training, or show a prepared folder.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    Prepare(Box<PrepareArgs>),
    Info(InfoArgs),
}

/// The flags that select documents and their text, shared by `data prepare` and `tokenizer train`.
#[derive(clap::Args, Debug)]
pub struct DocumentArgs {
    /// Files (.txt, .md and .jsonl, also compressed as .gz or .zst; .parquet), folders, globs, or names of texts
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<String>,

    #[command(flatten)]
    pub reading: ReadingArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Format {
    Llmc,
    Nanogpt,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SplitUnit {
    Documents,
    Characters,
}

/// Encode documents into shards of tokens, in parallel and in little memory.
///
/// A text file is one document; a line of JSON and a row of Parquet are one each. The folder receives the shards, the
/// tokenizer, and manifest.json, which lists shards, sources and dropped documents. `calame train --data DIR` trains on
/// the folder without loading it into memory.
///
/// Ctrl-C saves the progress. The same command resumes it, also after a kill, and writes the same shards as an
/// uninterrupted run.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  calame data prepare books/ --out prepared --strip-gutenberg
  calame data prepare 'pages/*.jsonl.zst' --field content --dedup --out prepared
  calame data prepare fineweb/*.parquet --out fineweb --val-fraction 0.001
  calame data prepare story.txt --format nanogpt --out story
  calame train --data prepared")]
struct PrepareArgs {
    #[command(flatten)]
    documents: DocumentArgs,

    /// Folder in which shards, tokenizer and manifest are written
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// llmc: shards with llm.c's header; nanogpt: train.bin and val.bin without a header. Ids have 16 bits, or 32 if
    /// the vocabulary needs them
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "llmc")]
    format: Format,

    /// Tokenizer: gpt2, a tokenizer.json, or a run or model that has one
    #[arg(long, value_name = "TOKENIZER", default_value = "gpt2")]
    tokenizer: String,

    /// Tokens per shard in llm.c's format [default: 100000000]
    #[arg(long, value_name = "N")]
    shard_tokens: Option<u64>,

    /// Fraction of the text for validation
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    val_fraction: f64,

    /// How the text is split: by documents at random, or by characters (the last ones are for validation)
    /// [default: characters if all inputs are text files, else documents]
    #[arg(long, value_name = "BY", value_enum)]
    split: Option<SplitUnit>,

    /// Seed of the split by documents
    #[arg(long, value_name = "N", default_value_t = 123)]
    seed: u64,

    /// Add an end-of-text token to each document: before it in llm.c's format, after it in nanoGPT's
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    end_of_text: bool,

    /// Number of threads that tokenize [default: one per processor]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,

    /// Print one JSON object for programs
    #[arg(long)]
    json: bool,
}

/// Show the contents of a prepared folder.
#[derive(clap::Args, Debug)]
struct InfoArgs {
    /// Folder written by `calame data prepare`
    #[arg(value_name = "DIR")]
    folder: PathBuf,

    /// Read every shard and verify its checksum
    #[arg(long)]
    check: bool,

    /// Print the manifest for programs
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<ExitCode> {
    match args.verb {
        Verb::Prepare(args) => run_prepare(&args),
        Verb::Info(args) => run_info(&args).map(|()| ExitCode::SUCCESS),
    }
}

impl DocumentArgs {
    /// Finds the files of the inputs. A text given by its name is downloaded if the cache lacks it.
    ///
    /// # Errors
    /// If an input does not exist, is of no known kind, or cannot be downloaded.
    pub fn sources(&self) -> Result<Sources> {
        let cache = download::cache_dir()?;
        text::fetch(&self.inputs, &cache)?;
        let sources = find_sources(&self.inputs, &cache, &self.reading.options())?;
        verbosity::opened_all(sources.files.iter().map(|source| source.path.as_path()));
        Ok(sources)
    }
}

/// The bytes of a preparation on so many threads, an upper estimate: each has batches of a megabyte of text in all stages,
/// their ids, and a cache of pieces; GPT-2's tokenizer has tables.
fn preparation_bytes(n_threads: usize) -> u64 {
    const THREAD_BYTES: u64 = 24 << 20;
    const TOKENIZER_BYTES: u64 = 48 << 20;
    (n_threads as u64 + 1).saturating_mul(THREAD_BYTES).saturating_add(TOKENIZER_BYTES)
}

/// The time after a signal in which the progress is saved. After a kill, less has to be repeated than is prepared in a
/// few seconds.
const SAVING_TIME: Duration = Duration::from_millis(800);

/// The number of threads: as given, else that of the processors that this process may use.
fn n_threads(asked: Option<usize>) -> usize {
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).clamp(1, 256)
}

fn run_prepare(args: &PrepareArgs) -> Result<ExitCode> {
    if args.format == Format::Nanogpt && args.shard_tokens.is_some() {
        let hint = "leave it out, or use --format llmc";
        return Err(WithHint::usage("--shard-tokens was given, but nanoGPT's format has no shards", hint).into());
    }
    let n_threads = n_threads(args.threads);
    memory::require_program(n_threads)?;
    memory::require("data prepare", preparation_bytes(n_threads), "use fewer threads, by --threads")?;
    let tokenizer = open_tokenizer(&args.tokenizer)?;
    let sources = args.documents.sources()?;
    let by_characters = sources.files.iter().all(|source| source.kind == SourceKind::Text);
    let options = PrepareOptions {
        format: if args.format == Format::Llmc { ShardFormat::Llmc } else { ShardFormat::Nanogpt },
        shard_tokens: args.shard_tokens.unwrap_or(PrepareOptions::default().shard_tokens),
        val_fraction: args.val_fraction,
        split: match args.split {
            Some(SplitUnit::Characters) => SplitBy::Characters,
            None if by_characters => SplitBy::Characters,
            Some(SplitUnit::Documents) | None => SplitBy::Documents,
        },
        seed: args.seed,
        end_of_text: args.end_of_text,
        ..PrepareOptions::default()
    }
    .with_reading(args.documents.reading.options());
    // Until here a signal ends the program at once. From here the progress is saved, if that takes less than a second.
    let signals = Signals::listen()?;
    signals.end_within(SAVING_TIME);
    let mut follower = Follower::new(&sources.files, signals, args.json)?;
    let phase = verbosity::phase("encoding the documents");
    let prepared = prepare(&sources, tokenizer.as_ref(), &options, &args.out, n_threads, &mut follower);
    follower.finish();
    drop(phase);
    match prepared? {
        Prepared::Done(manifest) => report(args, &manifest, Some(&follower))?,
        Prepared::WasDone(manifest) => report(args, &manifest, None)?,
        Prepared::Stopped => {
            note("stopped; the progress is saved, and the same command resumes it");
            return Ok(follower.signals.exit_code());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn report(args: &PrepareArgs, manifest: &Manifest, follower: Option<&Follower>) -> Result<()> {
    print_report(&manifest.report());
    let seconds = follower.map(Follower::seconds);
    let megabytes_per_second = follower.map(Follower::megabytes_per_second);
    if args.json {
        return print_json(&json!({
            "event": "result",
            "folder": args.out,
            "n_documents": manifest.n_documents,
            "n_text_bytes": manifest.n_text_bytes,
            "n_train_tokens": manifest.n_tokens(Split::Train),
            "n_val_tokens": manifest.n_tokens(Split::Val),
            "n_shards": manifest.shards.len(),
            "dropped": manifest.dropped,
            "findings": manifest.findings,
            "skipped": manifest.skipped,
            "seconds": seconds,
            "megabytes_per_second": megabytes_per_second,
        }));
    }
    let mut lines = describe(&args.out, manifest);
    match (seconds, megabytes_per_second) {
        (Some(seconds), Some(speed)) => lines.push_str(&format!("time      {}, {speed:.1} MB/s\n", duration(seconds))),
        _ => lines.push_str("done      before, with the same text and options\n"),
    }
    if manifest.n_tokens(Split::Val) > 0 {
        lines.push_str(&format!(
            "next      {}\n",
            invocation::command(&format!("train --data {}", quoted(&args.out.display().to_string())))
        ));
    } else if manifest.options.val_fraction > 0.0 {
        note(
            "warning: no document was drawn for validation, and calame train needs some; prepare the text again into another \
             folder with --split characters, which can split any text",
        );
    } else {
        note("note: there is no validation part, which calame train needs");
    }
    print(&lines)
}

/// A description of a prepared folder, in lines for people.
fn describe(folder: &Path, manifest: &Manifest) -> String {
    let part = |part: Split| {
        let n_shards = manifest.shards.iter().filter(|shard| shard.split == part).count();
        let files = if n_shards == 1 { "1 file".to_owned() } else { format!("{n_shards} files") };
        format!("{} in {files}", grouped(manifest.n_tokens(part)))
    };
    let n_tokens: u64 = manifest.shards.iter().map(|shard: &ShardEntry| shard.n_tokens).sum();
    let dropped = &manifest.dropped;
    let mut lines = format!(
        "folder    {}\ntext      {} documents of {} files, {}\ntokens    {} to train on, {} to validate, {:.2} bytes per token\ntokenizer {}, {} tokens\n",
        folder.display(),
        grouped(manifest.n_documents),
        grouped(manifest.sources.len() as u64),
        size(manifest.n_text_bytes),
        part(Split::Train),
        part(Split::Val),
        manifest.n_text_bytes as f64 / n_tokens.max(1) as f64,
        manifest.tokenizer.kind,
        grouped(manifest.tokenizer.vocab_size as u64),
    );
    if dropped.duplicates + dropped.empty + dropped.bad > 0 {
        lines.push_str(&format!(
            "dropped   {} duplicates, {} empty, {} bad lines or rows\n",
            grouped(dropped.duplicates),
            grouped(dropped.empty),
            grouped(dropped.bad)
        ));
    }
    if let Some(first) = &dropped.first_bad {
        lines.push_str(&format!("first bad {first}\n"));
    }
    lines
}

fn run_info(args: &InfoArgs) -> Result<()> {
    verbosity::opened(&args.folder.join(MANIFEST));
    let (manifest, sha256) = Manifest::read(&args.folder)?;
    if args.check {
        let _phase = verbosity::phase("verifying the shards");
        manifest.verify(&args.folder, &mut |_| {})?;
    }
    if args.json {
        return print_json(&json!({ "manifest": manifest, "sha256": sha256, "checked": args.check }));
    }
    let mut lines = describe(&args.folder, &manifest);
    for shard in &manifest.shards {
        lines.push_str(&format!("shard     {}, {} tokens\n", shard.file, grouped(shard.n_tokens)));
    }
    if args.check {
        lines.push_str("checked   every shard matches its checksum\n");
    }
    print(&lines)
}
