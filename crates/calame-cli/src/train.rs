//! `calame train`: from a text to a trained model.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use calame::checkpoint::{SavedModel, latest_checkpoint, load_model, save_model};
use calame::infer::GenerateError;
use calame::model::{Gpt, ModelConfig};
use calame::ops::Device;
use calame::tokenizer::{self, Special, Tokenizer};
use calame::train::metrics::{self, MetricsWriter, Record};
use calame::train::{Outcome, RunConfig, RunFolder, Trainer};
use clap::builder::TypedValueParser;
use toml::{Table, Value};

use crate::observer::Follower;
use crate::output::{UsageError, WithHint, duration, grouped, message, note};
use crate::settings::{self, Asked, Settings};
use crate::signals::Signals;
use crate::text::{self, Prepared};
use crate::{device, runs, space};

/// Train a GPT on a text.
///
/// With nothing else said, this is the report's training: a GPT of 163M parameters, ten epochs of windows of 256 tokens
/// in batches of 4, AdamW at 4e-4, evaluated every 5 steps, a sample after every epoch; on a built-in story of 21,690
/// characters. The result is RUN/model, the loss plot and the samples lie beside it.
///
/// Ctrl-C ends the step, saves what is needed to go on, and prints the command that does.
#[derive(clap::Args, Debug)]
#[command(
    allow_negative_numbers = true,
    after_help = "Examples:
  calame train                                    the report's training, on the built-in story
  calame train --preset tiny                      a small model, in seconds
  calame train --data the-verdict                 the report's own text (downloaded once)
  calame train --data notes/ --data more.txt --epochs 20 --lr 1e-4
  calame train --init-from runs/2026-11-23-book --data letters.txt --lr 5e-5
  calame train --resume runs/2026-11-23-book      go on after Ctrl-C"
)]
pub struct Args {
    /// Text: a file, a folder (its .txt and .md), a glob or a name (the-verdict, builtin); may be repeated
    #[arg(long, value_name = "INPUT", num_args = 1..)]
    data: Vec<String>,

    /// Shape of the model: book, gpt2, gpt2-medium, gpt2-large, gpt2-xl or tiny [default: book]
    #[arg(long, value_name = "NAME", conflicts_with = "init_from")]
    preset: Option<String>,

    /// Folder of the run [default: runs/<date>-<preset>]
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,

    /// Replace the run that stands in --run DIR
    #[arg(long, requires = "run")]
    overwrite: bool,

    /// Go on with a run that was stopped
    #[arg(long, value_name = "RUN", conflicts_with_all = ["data", "preset", "run", "overwrite", "config", "epochs", "batch_size",
          "window", "stride", "lr", "seed", "init_from", "set", "device", "precision"])]
    resume: Option<PathBuf>,

    /// Settings: a TOML file with any of the keys that a run's config.toml has
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Passes over the text [default: 10]
    #[arg(long, value_name = "N", value_parser = storable())]
    epochs: Option<u64>,

    /// Windows of a step [default: 4]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,

    /// Tokens of a window [default: 256; tiny: 64]
    #[arg(long, value_name = "N")]
    window: Option<usize>,

    /// Tokens from one window's start to the next [default: 128; tiny: 64]
    #[arg(long, value_name = "N")]
    stride: Option<usize>,

    /// Learning rate [default: 4e-4; tiny: 5e-3]
    #[arg(long, value_name = "RATE")]
    lr: Option<f64>,

    /// Seed of weights, order and dropout [default: 123]
    #[arg(long, value_name = "N", value_parser = storable())]
    seed: Option<u64>,

    /// Start from the weights and the tokenizer of this model
    #[arg(long, value_name = "MODEL")]
    init_from: Option<PathBuf>,

    /// Any other setting, such as --set model.dropout=0.2; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,

    #[command(flatten)]
    device: device::Args,

    /// Print JSON lines for programs
    #[arg(long)]
    json: bool,
}

/// Whole numbers that a TOML file can hold.
fn storable() -> impl TypedValueParser<Value = u64> {
    clap::value_parser!(u64).range(..=i64::MAX as u64)
}

/// A run that is ready to train.
struct Ready {
    config: RunConfig,
    place: Place,
    gpt: Gpt,
    prepared: Prepared,
}

enum Place {
    /// To be made here.
    New(PathBuf),
    /// A stopped run and its checkpoint.
    Stopped(RunFolder, PathBuf),
}

pub fn run(args: Args) -> Result<ExitCode> {
    let signals = Signals::listen()?;
    let (dev, ready) = match &args.resume {
        Some(path) => reopen(path, &args)?,
        None => start(&args)?,
    };
    let Ready { config, place, gpt, prepared } = ready;
    let description = prepared.description;
    // Before the folder: a run that does not fit into memory must not have replaced another one.
    let mut trainer = Trainer::new(&dev, &config, gpt, prepared.splits);
    let (folder, metrics) = match place {
        Place::New(path) => {
            let folder = runs::create(&path, &config, &prepared.tokenizer.to_json(), args.overwrite)?;
            let metrics = MetricsWriter::create(&folder.metrics())?;
            (folder, metrics)
        }
        Place::Stopped(folder, checkpoint) => {
            trainer.resume(&checkpoint)?;
            let metrics = MetricsWriter::open_at_step(&folder.metrics(), trainer.progress())?;
            folder.rewrite_samples(&metrics::read(&folder.metrics())?)?;
            (folder, metrics)
        }
    };
    let steps = (trainer.progress().n_steps, trainer.n_steps_in_all());
    let sample = config.sample.clone();
    let tokenizer = Arc::clone(&prepared.tokenizer);
    let mut follower = Follower::new(folder, metrics, tokenizer, sample, signals, args.json, steps)?;
    if !args.json {
        introduce(&mut follower, &config, &trainer, &description);
    }
    let outcome = trainer.run(&mut follower);
    follower.finish();
    match outcome.map_err(|error| rescue(&follower, &trainer, error))? {
        Outcome::Finished => finish(&mut follower, &trainer, prepared.tokenizer.as_ref())
            .map_err(|error| rescue(&follower, &trainer, error)),
        Outcome::Stopped => stop(&mut follower, &trainer),
        Outcome::Diverged { step, loss } => {
            bail!(WithHint::new(
                format!(
                    "the loss of step {step} is {loss}: the training diverged; {} keeps its metrics",
                    follower.folder.path().display()
                ),
                format!("try a smaller learning rate, such as --lr {:.0e}", config.train.lr / 4.0)
            ));
        }
    }
}

/// What a training that ends by an error has learnt is not lost with it: its state is saved, if that can be.
fn rescue(follower: &Follower, trainer: &Trainer<'_>, error: anyhow::Error) -> anyhow::Error {
    if error.is::<GenerateError>() {
        let hint = "start again with a smaller learning rate, by --lr";
        return WithHint::new(format!("no sample can be written: {}", message(&error)), hint).into();
    }
    let n_steps = trainer.progress().n_steps;
    if n_steps == 0 || follower.folder.model().exists() || trainer.save(&follower.folder.checkpoints()).is_err() {
        return error;
    }
    let hint = format!(
        "the training's state after step {n_steps} is saved; when that is mended: calame train --resume {}",
        follower.folder.path().display()
    );
    WithHint::new(message(&error), hint).into()
}

/// A new run, but for its folder; the text is known to suffice before memory is taken for the model.
fn start(args: &Args) -> Result<(Device, Ready)> {
    let settings = settings::resolve(&asked(args))?;
    let mut config = settings.config.clone();
    let (dev, resolved) = device::open(&config.device)?;
    config.device = resolved;
    let source = if config.init_from.is_empty() { None } else { Some(load_model(Path::new(&config.init_from))?) };
    if let Some(source) = &source {
        adopt_shape(&mut config, source, &settings)?;
    }
    config.train.validate().map_err(UsageError::from)?;
    let given = source.as_ref().and_then(|source| source.tokenizer.clone());
    let prepared = text::prepare(&config, given)?;
    if source.is_none() && config.tokenizer.kind != "gpt2" && !settings.was_set("model.vocab_size") {
        config.model.vocab_size = prepared.tokenizer.n_vocab();
    }
    config.model.validate().map_err(UsageError::from)?;
    check_vocabulary(&config, prepared.tokenizer.as_ref())?;
    check_sample(&config, prepared.tokenizer.as_ref())?;
    config.data = config.data.resolved();
    fit_batches(&mut config, &prepared)?;
    config.tokenizer.kind = prepared.tokenizer.kind().to_owned();
    config.text_sha256 = prepared.sha256.clone();
    let path = args.run.clone().unwrap_or_else(|| runs::new_path(&config.preset));
    // Looked at again when the folder is made; here it costs no waiting for the model.
    runs::check_free(&path, args.overwrite)?;
    space::check(&path, config.model.n_parameters())?;
    let gpt = match source {
        Some(source) => Gpt { config: config.model.clone(), ..source.gpt },
        None => Gpt::fresh(&dev, &config.model, config.train.seed),
    };
    Ok((dev, Ready { config, place: Place::New(path), gpt, prepared }))
}

fn asked(args: &Args) -> Asked {
    let mut flags: Vec<(&'static str, Value)> = Vec::new();
    // A size beyond what TOML holds is beyond what anything holds: the largest is refused as it would be.
    let size = |n: usize| Value::Integer(i64::try_from(n).unwrap_or(i64::MAX));
    let text = |s: &String| Value::String(s.clone());
    if !args.data.is_empty() {
        flags.push(("data.inputs", Value::Array(args.data.iter().map(text).collect())));
    }
    flags.extend(args.init_from.as_ref().map(|p| ("init_from", Value::String(p.display().to_string()))));
    flags.extend(args.epochs.map(|n| ("train.epochs", Value::Integer(n as i64))));
    flags.extend(args.lr.map(|x| ("train.lr", Value::Float(x))));
    flags.extend(args.seed.map(|n| ("train.seed", Value::Integer(n as i64))));
    flags.extend(args.batch_size.map(|n| ("data.batch_size", size(n))));
    flags.extend(args.window.map(|n| ("data.window", size(n))));
    flags.extend(args.stride.map(|n| ("data.stride", size(n))));
    flags.extend(args.device.device.as_ref().map(|s| ("device.device", text(s))));
    flags.extend(args.device.precision.as_ref().map(|s| ("device.precision", text(s))));
    flags.extend(args.device.threads.map(|n| ("device.threads", size(n))));
    Asked { preset: args.preset.clone(), config_file: args.config.clone(), flags, set: args.set.clone() }
}

/// The shape of the model that the weights come from, and its tokenizer; only its dropout may be set otherwise.
fn adopt_shape(config: &mut RunConfig, source: &SavedModel, settings: &Settings) -> Result<()> {
    let found = &source.gpt.config;
    let dropout = if settings.was_set("model.dropout") { config.model.dropout } else { found.dropout };
    let adopted = ModelConfig { dropout, ..found.clone() };
    let (asked, has) = (Table::try_from(&config.model)?, Table::try_from(&adopted)?);
    for (key, value) in has.iter().filter(|(key, value)| asked.get(*key) != Some(*value)) {
        if settings.was_set(&format!("model.{key}")) {
            bail!(UsageError(format!(
                "model.{key} is {value} in the model given by --init-from: it cannot be set to another value"
            )));
        }
    }
    if source
        .tokenizer
        .as_ref()
        .is_some_and(|t| settings.was_set("tokenizer.kind") && t.kind() != config.tokenizer.kind)
    {
        bail!(UsageError("tokenizer.kind is that of the model given by --init-from: it cannot be set".to_owned()));
    }
    config.model = adopted;
    config.preset = settings::CUSTOM.to_owned();
    Ok(())
}

/// Batches larger than the text has windows for become as large as it has: they are the same batches, and the model takes
/// memory for the size that stands in the settings.
fn fit_batches(config: &mut RunConfig, prepared: &Prepared) -> Result<()> {
    let (data, splits) = (&mut config.data, &prepared.splits);
    data.batch_size = data.batch_size.min(splits.train.n_windows());
    data.eval_batch_size = data.eval_batch_size.min(splits.validation.n_windows().max(data.batch_size));
    let (epochs, per_epoch) = (config.train.epochs, splits.train.n_batches() as u64);
    if epochs.checked_mul(per_epoch).is_none() {
        bail!(UsageError(format!("train.epochs is {epochs}: expected at most {}", u64::MAX / per_epoch)));
    }
    Ok(())
}

fn check_vocabulary(config: &RunConfig, tokenizer: &dyn Tokenizer) -> Result<()> {
    if tokenizer.n_vocab() > config.model.vocab_size {
        bail!(WithHint::new(
            format!(
                "the tokenizer has {} tokens, model.vocab_size is {}",
                tokenizer.n_vocab(),
                config.model.vocab_size
            ),
            format!("--set model.vocab_size={} or more", tokenizer.n_vocab())
        ));
    }
    Ok(())
}

/// The sample's prompt must be one that the tokenizer and the model take, and that before an epoch has passed.
fn check_sample(config: &RunConfig, tokenizer: &dyn Tokenizer) -> Result<()> {
    if config.sample.max_tokens == 0 {
        return Ok(());
    }
    let hint = "--set sample.prompt=\"…\" changes it, --set sample.max_tokens=0 writes no samples";
    let tokens = tokenizer
        .encode(&config.sample.prompt, Special::Allow)
        .map_err(|e| WithHint::new(format!("the prompt of the samples, {:?}: {e}", config.sample.prompt), hint))?;
    if tokens.is_empty() || tokens.len() > config.model.n_positions {
        let message = format!(
            "the prompt of the samples has {} tokens, the model's context is {}",
            tokens.len(),
            config.model.n_positions
        );
        bail!(WithHint::new(message, hint));
    }
    Ok(())
}

/// A run that was stopped, from its folder.
fn reopen(path: &Path, args: &Args) -> Result<(Device, Ready)> {
    let (folder, mut config) = RunFolder::open(path)?;
    let Some(checkpoint) = latest_checkpoint(&folder.checkpoints())? else {
        let hint = if folder.model().exists() {
            format!("it is finished; to train its model further: calame train --init-from {}", path.display())
        } else {
            "it was ended before it could save anything: start it again with --overwrite".to_owned()
        };
        bail!(WithHint::new(format!("{} has no checkpoint to go on from", path.display()), hint));
    };
    let recorded = config.device.instruction_set.clone();
    config.device.threads = args.device.threads.unwrap_or(config.device.threads);
    config.device.instruction_set = "auto".to_owned();
    let (dev, resolved) = device::open(&config.device)?;
    if resolved.instruction_set != recorded {
        note(&format!(
            "warning: the run began with {recorded}, this processor's kernels are {}: results may differ in the last bits",
            resolved.instruction_set
        ));
    }
    config.device = resolved;
    let file = folder.path().join("tokenizer.json");
    let tokenizer = tokenizer::read_json(&folder.tokenizer_json()?, &file)?;
    let prepared = text::prepare(&config, Some(tokenizer))?;
    if prepared.sha256 != config.text_sha256 {
        bail!(WithHint::new(
            format!("the text is not the one that {} was trained on (its SHA-256 is another)", path.display()),
            "put the text back as it was, or start a new run with --init-from"
        ));
    }
    let gpt = Gpt::zeros(&config.model);
    Ok((dev, Ready { config, place: Place::Stopped(folder, checkpoint), gpt, prepared }))
}

fn introduce(follower: &mut Follower, config: &RunConfig, trainer: &Trainer<'_>, text: &str) {
    let DeviceLine(device) = DeviceLine::of(config);
    let n_parameters = grouped(config.model.n_parameters() as u64);
    let from = if config.init_from.is_empty() { String::new() } else { format!(", from {}", config.init_from) };
    follower.line(&format!("model  {}: {n_parameters} parameters{from}, {device}", config.preset));
    follower.line(&format!("text   {text}"));
    let (per_epoch, epochs) = (trainer.steps_per_epoch(), config.train.epochs);
    let n_tokens = config.data.batch_size * config.data.window;
    follower.line(&format!(
        "steps  {per_epoch} an epoch, {} in all over {epochs} epoch{}, {} tokens each",
        grouped(per_epoch * epochs),
        if epochs == 1 { "" } else { "s" },
        grouped(n_tokens as u64)
    ));
    follower.line(&format!("run    {}", follower.folder.path().display()));
    match trainer.progress().n_steps {
        0 => follower.line(""),
        n => follower.line(&format!("going on after step {n}\n")),
    }
}

struct DeviceLine(String);

impl DeviceLine {
    fn of(config: &RunConfig) -> DeviceLine {
        let device = &config.device;
        let threads = if device.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", device.threads) };
        DeviceLine(format!("{} on the {} with {threads} ({})", device.precision, device.device, device.instruction_set))
    }
}

fn finish(follower: &mut Follower, trainer: &Trainer<'_>, tokenizer: &dyn Tokenizer) -> Result<ExitCode> {
    let progress = trainer.progress().clone();
    let total_seconds = follower.seconds();
    let (step, n_tokens_seen) = (progress.n_steps.saturating_sub(1), progress.n_tokens_seen);
    let (run, model) = (follower.folder.path().to_owned(), follower.folder.model());
    save_model(&model, trainer.gpt(), Some(tokenizer))?;
    // After the model: a run whose metrics have an end has a result.
    follower.record(&Record::End { step, epoch: progress.epoch + 1, n_tokens_seen, total_seconds })?;
    follower.folder.remove_checkpoints()?;
    follower.draw().context("the model is saved, but the plot could not be drawn")?;
    if follower.json {
        let result = serde_json::json!({ "event": "result", "run": run, "model": model });
        follower.line(&result.to_string());
    } else {
        follower.line(&format!("\ndone in {}", duration(total_seconds)));
        follower.line(&format!("model  {}", model.display()));
        follower.line(&format!("plot   {}", run.join("loss-plot.pdf").display()));
        let prompt = follower.sample.prompt.clone();
        follower.line(&format!("next   calame generate --model {} --context {prompt:?}", run.display()));
    }
    Ok(ExitCode::SUCCESS)
}

fn stop(follower: &mut Follower, trainer: &Trainer<'_>) -> Result<ExitCode> {
    trainer.save(&follower.folder.checkpoints())?;
    follower.metrics.sync()?;
    let run = follower.folder.path().display().to_string();
    let n_steps = trainer.progress().n_steps;
    if follower.json {
        let result = serde_json::json!({ "event": "stopped", "run": run, "n_steps": n_steps });
        follower.line(&result.to_string());
    } else {
        follower.line(&format!("\nstopped after step {n_steps}; everything is saved. To go on:"));
        follower.line(&format!("  calame train --resume {run}"));
    }
    Ok(follower.signals.exit_code())
}
