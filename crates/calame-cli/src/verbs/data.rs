//! `calame data`: text of any size made ready to train on.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use calame::data::manifest::ShardEntry;
use calame::data::prepare::{Normalisation, PrepareOptions, Prepared, SplitBy, prepare};
use calame::data::{DocumentSource, Manifest, ShardFormat, SourceKind, Split, find_sources};
use clap::{ArgAction, Subcommand, ValueEnum};
use serde_json::json;

use crate::net::download;
use crate::training::signals::Signals;
use crate::training::text;
use crate::training::text::open_tokenizer;
use crate::ui::output::{WithHint, duration, grouped, note, print, print_json, quoted};
use crate::ui::preparation::Follower;

/// Prepare text of any size for training, or look at what was prepared.
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

/// Where documents are and what of them is taken: `data prepare` and `tokenizer train` have the same.
#[derive(clap::Args, Debug)]
pub struct DocumentArgs {
    /// Files (.txt, .md, .jsonl, each also with .gz or .zst after it, .parquet), folders, globs, or names of texts
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<String>,

    /// The field of a .jsonl line that is the text
    #[arg(long, value_name = "NAME", default_value = "text")]
    pub field: String,

    /// The column of a .parquet file that is the text
    #[arg(long, value_name = "NAME", default_value = "text")]
    pub column: String,

    /// Take off Project Gutenberg's header and licence
    #[arg(long)]
    pub strip_gutenberg: bool,

    /// Bring text into a Unicode form: nfc (composed), or none
    #[arg(long, value_name = "FORM", value_enum, default_value = "none")]
    pub normalise: Form,

    /// Leave out a document that came before
    #[arg(long)]
    pub dedup: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Form {
    None,
    Nfc,
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

/// Turn documents into shards of tokens, in parallel and in little memory.
///
/// A text file is one document, a line of JSON and a row of Parquet is one each. The folder gets the shards, the tokenizer
/// and manifest.json, which says what they are, where they came from and what was dropped; `calame train --data DIR` trains
/// on it without reading it into memory.
///
/// Ctrl-C saves what is done; the same command goes on from there, as it does after a kill, and the shards are those of an
/// unbroken run.
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

    /// The folder to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// llmc: shards with llm.c's header; nanogpt: train.bin and val.bin, ids alone. Ids have 16 bits, 32 where the vocabulary needs it
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "llmc")]
    format: Format,

    /// gpt2, a tokenizer.json, or a run or model that has one
    #[arg(long, value_name = "TOKENIZER", default_value = "gpt2")]
    tokenizer: String,

    /// Tokens of a shard of llm.c's format [default: 100000000]
    #[arg(long, value_name = "N")]
    shard_tokens: Option<u64>,

    /// Share of the text that is for validation
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    val_fraction: f64,

    /// What is dealt to the two parts: documents, or characters (the last of all are for validation)
    /// [default: characters for text files alone, else documents]
    #[arg(long, value_name = "BY", value_enum)]
    split: Option<SplitUnit>,

    /// Seed of the split by documents
    #[arg(long, value_name = "N", default_value_t = 123)]
    seed: u64,

    /// An end-of-text token for each document: before it in llm.c's format, after it in nanoGPT's
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    end_of_text: bool,

    /// Let special tokens such as <|endoftext|> in the text become their ids; otherwise they are ordinary text
    #[arg(long)]
    allow_special: bool,

    /// Threads that tokenise [default: all]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,

    /// Print one JSON object for programs
    #[arg(long)]
    json: bool,
}

/// Show what a prepared folder holds.
#[derive(clap::Args, Debug)]
struct InfoArgs {
    /// The folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,

    /// Read every shard and compare its checksum
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
    /// The files; a text that has a name and is not there yet is downloaded.
    pub fn sources(&self) -> Result<Vec<DocumentSource>> {
        let cache = download::cache_dir()?;
        text::fetch(&self.inputs, &cache)?;
        Ok(find_sources(&self.inputs, &cache)?)
    }

    /// What of the options says which text is taken.
    pub fn options(&self) -> PrepareOptions {
        PrepareOptions {
            field: self.field.clone(),
            column: self.column.clone(),
            strip_gutenberg: self.strip_gutenberg,
            normalise: match self.normalise {
                Form::None => Normalisation::None,
                Form::Nfc => Normalisation::Nfc,
            },
            dedup: self.dedup,
            ..PrepareOptions::default()
        }
    }
}

/// Threads to work with: those asked for, or as many as the machine runs at once.
fn n_threads(asked: Option<usize>) -> usize {
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).clamp(1, 256)
}

fn run_prepare(args: &PrepareArgs) -> Result<ExitCode> {
    let signals = Signals::listen()?;
    if args.format == Format::Nanogpt && args.shard_tokens.is_some() {
        let hint = "leave it out, or use --format llmc";
        return Err(WithHint::usage("nanoGPT's format has no shards, and --shard-tokens was given", hint).into());
    }
    let tokenizer = open_tokenizer(&args.tokenizer)?;
    let sources = args.documents.sources()?;
    let by_characters = sources.iter().all(|source| source.kind == SourceKind::Text);
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
        allow_special: args.allow_special,
        ..args.documents.options()
    };
    let mut follower = Follower::new(&sources, signals, args.json)?;
    let n_threads = n_threads(args.threads);
    let prepared = prepare(&sources, tokenizer.as_ref(), &options, &args.out, n_threads, &mut follower);
    follower.finish();
    match prepared? {
        Prepared::Done(manifest) => report(args, &manifest, Some(&follower))?,
        Prepared::WasDone(manifest) => report(args, &manifest, None)?,
        Prepared::Stopped => {
            note("stopped; what is done is saved, and the same command goes on");
            return Ok(follower.signals.exit_code());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn report(args: &PrepareArgs, manifest: &Manifest, follower: Option<&Follower>) -> Result<()> {
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
            "seconds": seconds,
            "megabytes_per_second": megabytes_per_second,
        }));
    }
    let mut lines = describe(&args.out, manifest);
    match (seconds, megabytes_per_second) {
        (Some(seconds), Some(speed)) => lines.push_str(&format!("time      {}, {speed:.1} MB/s\n", duration(seconds))),
        _ => lines.push_str("done      before: the same text with the same options\n"),
    }
    if manifest.n_tokens(Split::Val) > 0 {
        lines.push_str(&format!("next      calame train --data {}\n", quoted(&args.out.display().to_string())));
    } else if manifest.options.val_fraction > 0.0 {
        note("warning: no document was drawn for validation; --split characters cuts any text in two");
    } else {
        note("note: there is no validation part, which calame train asks for");
    }
    print(&lines)
}

/// A prepared folder, in lines for people.
fn describe(folder: &Path, manifest: &Manifest) -> String {
    let part = |part: Split| {
        let n_shards = manifest.shards.iter().filter(|shard| shard.split == part).count();
        let files = if n_shards == 1 { "1 file".to_owned() } else { format!("{n_shards} files") };
        format!("{} in {files}", grouped(manifest.n_tokens(part)))
    };
    let n_tokens: u64 = manifest.shards.iter().map(|shard: &ShardEntry| shard.n_tokens).sum();
    let dropped = &manifest.dropped;
    let mut lines = format!(
        "folder    {}\ntext      {} documents of {} files, {:.1} MB\ntokens    {} to train on, {} to validate, {:.2} bytes a token\ntokenizer {}, {} tokens\n",
        folder.display(),
        grouped(manifest.n_documents),
        grouped(manifest.sources.len() as u64),
        manifest.n_text_bytes as f64 / 1e6,
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
    let (manifest, sha256) = Manifest::read(&args.folder)?;
    if args.check {
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
        lines.push_str("checked   every shard is what it was\n");
    }
    print(&lines)
}
