//! `calame train`: from a text to a trained model.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use calame::checkpoint::{latest_checkpoint, load_model, save_model};
use calame::model::{Gpt, ModelConfig};
use calame::ops::Device;
use calame::tokenizer::{self, Special, Tokenizer};
use calame::train::metrics::{MetricsWriter, Record};
use calame::train::{Outcome, RunConfig, RunFolder, Trainer};
use toml::Value;

use crate::observer::Follower;
use crate::output::{UsageError, WithHint, duration, grouped};
use crate::settings::{self, Asked, Settings};
use crate::signals::Signals;
use crate::text::{self, Prepared};
use crate::{device, runs};

/// Train a GPT on a text.
///
/// With nothing else said, this is the report's training: a GPT of 163M parameters, ten epochs of windows of 256 tokens
/// in batches of 4, AdamW at 4e-4, evaluated every 5 steps, a sample after every epoch; on a built-in story of 21,690
/// characters. The result is RUN/model, the loss plot and the samples lie beside it.
///
/// Ctrl-C ends the step, saves what is needed to go on, and prints the command that does.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  calame train                                    the report's training, on the built-in story
  calame train --preset tiny                      a small model, in seconds
  calame train --data the-verdict                 the report's own text (downloaded once)
  calame train --data notes/ --data more.txt --epochs 20 --lr 1e-4
  calame train --init-from runs/2026-11-23-book --data letters.txt --lr 5e-5
  calame train --resume runs/2026-11-23-book      go on after Ctrl-C")]
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
    #[arg(long, value_name = "N")]
    epochs: Option<u64>,

    /// Windows of a step [default: 4]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,

    /// Tokens of a window [default: 256]
    #[arg(long, value_name = "N")]
    window: Option<usize>,

    /// Tokens from one window's start to the next [default: 128]
    #[arg(long, value_name = "N")]
    stride: Option<usize>,

    /// Learning rate [default: 4e-4]
    #[arg(long, value_name = "RATE")]
    lr: Option<f64>,

    /// Seed of weights, order and dropout [default: 123]
    #[arg(long, value_name = "N")]
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

/// A run that is ready to train.
struct Ready {
    config: RunConfig,
    folder: RunFolder,
    gpt: Gpt,
    prepared: Prepared,
    checkpoint: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let signals = Signals::listen()?;
    let (dev, ready) = match &args.resume {
        Some(path) => reopen(path, &args)?,
        None => start(&args)?,
    };
    let Ready { config, folder, gpt, prepared, checkpoint } = ready;
    let description = prepared.description;
    let mut trainer = Trainer::new(&dev, &config, gpt, prepared.splits);
    if let Some(checkpoint) = &checkpoint {
        trainer.resume(checkpoint)?;
    }
    let n_steps = trainer.progress().n_steps;
    let metrics = match checkpoint {
        Some(_) => MetricsWriter::open_at_step(&folder.metrics(), n_steps)?,
        None => MetricsWriter::create(&folder.metrics())?,
    };
    let steps = (n_steps, trainer.n_steps_in_all());
    let sample = config.sample.clone();
    let tokenizer = Arc::clone(&prepared.tokenizer);
    let mut follower = Follower::new(folder, metrics, tokenizer, sample, signals, args.json, steps)?;
    if !args.json {
        introduce(&mut follower, &config, &trainer, &description)?;
    }
    let outcome = trainer.run(&mut follower);
    follower.finish();
    match outcome? {
        Outcome::Finished => finish(&mut follower, &trainer, prepared.tokenizer.as_ref()),
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

/// A new run, up to its folder; the text is known to suffice before memory is taken for the model.
fn start(args: &Args) -> Result<(Device, Ready)> {
    let Settings { mut config, .. } = {
        let mut settings = settings::resolve(&asked(args))?;
        if settings.config.tokenizer.kind != "gpt2" && !settings.was_set("model.vocab_size") {
            // Filled in from the tokenizer below.
            settings.config.model.vocab_size = 0;
        }
        settings
    };
    let (dev, resolved) = device::open(&config.device)?;
    config.device = resolved;
    let source = if config.init_from.is_empty() { None } else { Some(load_model(Path::new(&config.init_from))?) };
    if let Some(source) = &source {
        adopt_shape(&mut config, &source.gpt.config, args)?;
    }
    config.train.validate()?;
    let given = source.as_ref().and_then(|source| source.tokenizer.clone());
    let prepared = text::prepare(&config, given)?;
    if config.model.vocab_size == 0 {
        config.model.vocab_size = prepared.tokenizer.n_vocab();
    }
    config.model.validate()?;
    check_vocabulary(&config, prepared.tokenizer.as_ref())?;
    check_sample(&config, prepared.tokenizer.as_ref())?;
    config.data = config.data.resolved();
    config.tokenizer.kind = prepared.tokenizer.kind().to_owned();
    config.text_sha256 = prepared.sha256.clone();
    let path = args.run.clone().unwrap_or_else(|| runs::new_path(&config.preset));
    let folder = RunFolder::create(&path, &config, &prepared.tokenizer.to_json(), args.overwrite)?;
    let gpt = match source {
        Some(source) => Gpt { config: config.model.clone(), ..source.gpt },
        None => Gpt::fresh(&dev, &config.model, config.train.seed),
    };
    Ok((dev, Ready { config, folder, gpt, prepared, checkpoint: None }))
}

fn asked(args: &Args) -> Asked {
    let mut flags: Vec<(&'static str, Value)> = Vec::new();
    let size = |n: usize| Value::Integer(n as i64);
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

/// The shape of the model that the weights come from; only its dropout may be set otherwise.
fn adopt_shape(config: &mut RunConfig, found: &ModelConfig, args: &Args) -> Result<()> {
    let settings = settings::resolve(&asked(args))?;
    let shape_keys = ["vocab_size", "n_positions", "n_embd", "n_head", "n_layer", "qkv_bias", "tied_head", "init"];
    for key in shape_keys {
        if settings.was_set(&format!("model.{key}")) {
            bail!(UsageError(format!("model.{key} is that of the model given by --init-from: it cannot be set")));
        }
    }
    let dropout = if settings.was_set("model.dropout") { config.model.dropout } else { found.dropout };
    config.model = ModelConfig { dropout, ..found.clone() };
    config.preset = "custom".to_owned();
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
        eprintln!(
            "warning: the run began with {recorded}, this processor's kernels are {}: results may differ in the last bits",
            resolved.instruction_set
        );
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
    Ok((dev, Ready { config, folder, gpt, prepared, checkpoint: Some(checkpoint) }))
}

fn introduce(follower: &mut Follower, config: &RunConfig, trainer: &Trainer<'_>, text: &str) -> Result<()> {
    let DeviceLine(device) = DeviceLine::of(config);
    let n_parameters = grouped(config.model.n_parameters() as u64);
    let from = if config.init_from.is_empty() { String::new() } else { format!(", from {}", config.init_from) };
    follower.line(&format!("model  {}: {n_parameters} parameters{from}, {device}", config.preset))?;
    follower.line(&format!("text   {text}"))?;
    let (per_epoch, epochs) = (trainer.steps_per_epoch(), config.train.epochs);
    let n_tokens = config.data.batch_size * config.data.window;
    follower.line(&format!(
        "steps  {per_epoch} an epoch, {} in all over {epochs} epochs, {} tokens each",
        grouped(per_epoch * epochs),
        grouped(n_tokens as u64)
    ))?;
    follower.line(&format!("run    {}", follower.folder.path().display()))?;
    match trainer.progress().n_steps {
        0 => follower.line("")?,
        n => follower.line(&format!("going on after step {n}\n"))?,
    }
    Ok(())
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
    follower.record(&Record::End { step, epoch: progress.epoch + 1, n_tokens_seen, total_seconds })?;
    let (run, model) = (follower.folder.path().to_owned(), follower.folder.model());
    save_model(&model, trainer.gpt(), Some(tokenizer))?;
    follower.folder.remove_checkpoints()?;
    follower.draw().context("the model is saved, but the plot could not be drawn")?;
    if follower.json {
        let result = serde_json::json!({ "event": "result", "run": run, "model": model });
        follower.line(&result.to_string())?;
    } else {
        follower.line(&format!("\ndone in {}", duration(total_seconds)))?;
        follower.line(&format!("model  {}", model.display()))?;
        follower.line(&format!("plot   {}", run.join("loss-plot.pdf").display()))?;
        follower
            .line(&format!("next   calame generate --model {} --context \"Every effort moves you\"", run.display()))?;
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
        follower.line(&result.to_string())?;
    } else {
        follower.line(&format!("\nstopped after step {n_steps}; everything is saved. To go on:"))?;
        follower.line(&format!("  calame train --resume {run}"))?;
    }
    Ok(follower.signals.exit_code())
}
