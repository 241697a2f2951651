//! `calame train`: from a text to a trained model.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use calame::checkpoint::clear_partial;
use calame::tokenizer::Tokenizer;
use calame::train::metrics::{self, MetricsWriter};
use calame::train::plan::Plan;
use calame::train::{Checkpoints, DeviceConfig, Observer, Outcome, RunConfig, RunFolder, RunLock, Trainer};
use clap::builder::TypedValueParser;

use crate::ending;
use crate::launch::{self, Place, Ready};
use crate::observer::Follower;
use crate::output::grouped;
use crate::plan::Planned;
use crate::signals::Signals;
use crate::tui::{self, About, Screen};
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
  calame train --preset tiny                      a small model, in a minute or two
  calame train --data letters.txt --recipe small-data
                                                  until validation gets no better; the best model is kept
  calame train --data the-verdict                 the report's own text (downloaded once)
  calame train --data notes/ --data more.txt --epochs 20 --lr 1e-4
  calame train --init-from runs/2026-11-23-book --data letters.txt --lr 5e-5
  calame train --resume runs/2026-11-23-book      go on after Ctrl-C"
)]
pub struct Args {
    /// Text: a file, a folder (its .txt and .md), a glob or a name (the-verdict, builtin); may be repeated
    #[arg(long, value_name = "INPUT", num_args = 1..)]
    pub data: Vec<String>,

    /// Shape of the model: book, gpt2, gpt2-medium, gpt2-large, gpt2-xl, small or tiny [default: book]
    #[arg(long, value_name = "NAME", conflicts_with = "init_from")]
    pub preset: Option<String>,

    /// Folder of the run [default: runs/<date>-<preset>]
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,

    /// Replace the run that stands in --run DIR
    #[arg(long, requires = "run")]
    pub overwrite: bool,

    /// Go on with a run that was stopped
    #[arg(long, value_name = "RUN", conflicts_with_all = ["data", "preset", "run", "overwrite", "config", "epochs", "batch_size",
          "window", "stride", "lr", "seed", "rng", "recipe", "loss_average", "init_from", "set", "device", "precision"])]
    pub resume: Option<PathBuf>,

    /// Settings: a TOML file with any of the keys that a run's config.toml has
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Passes over the text [default: 10]
    #[arg(long, value_name = "N", value_parser = storable())]
    pub epochs: Option<u64>,

    /// Windows of a step [default: 4]
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,

    /// Tokens of a window [default: 256; tiny: 64]
    #[arg(long, value_name = "N")]
    pub window: Option<usize>,

    /// Tokens from one window's start to the next [default: 128; tiny: 16]
    #[arg(long, value_name = "N")]
    pub stride: Option<usize>,

    /// Learning rate [default: 4e-4; small: 1e-3; tiny: 3e-3]
    #[arg(long, value_name = "RATE")]
    pub lr: Option<f64>,

    /// Seed of weights, order and dropout [default: 123]
    #[arg(long, value_name = "N", value_parser = storable())]
    pub seed: Option<u64>,

    /// Random numbers: calame, or torch, which draws what the report's PyTorch script draws on a CPU [default: calame]
    #[arg(long, value_name = "GENERATOR")]
    pub rng: Option<String>,

    /// Settings that belong together: book (the report's), small-data (ends when validation gets no better) or long
    /// (warm-up, cosine, clipping) [default: book]
    #[arg(long, value_name = "NAME")]
    pub recipe: Option<String>,

    /// What a step's loss is the mean of: token (its tokens) or book (its batches' means) [default: token]
    #[arg(long, value_name = "WHAT")]
    pub loss_average: Option<String>,

    /// Start from the weights and the tokenizer of this model
    #[arg(long, value_name = "MODEL")]
    pub init_from: Option<PathBuf>,

    /// Any other setting, such as --set model.dropout=0.2; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,

    #[command(flatten)]
    pub device: device::Args,

    /// Show a dashboard: curves, speed, memory, the latest sample; q stops and saves
    #[arg(long, conflicts_with = "json")]
    pub tui: bool,

    /// Print JSON lines for programs
    #[arg(long)]
    pub json: bool,
}

/// Whole numbers that a TOML file can hold.
fn storable() -> impl TypedValueParser<Value = u64> {
    clap::value_parser!(u64).range(..=i64::MAX as u64)
}

pub fn run(args: Args) -> Result<ExitCode> {
    let signals = Signals::listen()?;
    if args.tui {
        tui::check_terminal()?;
    }
    // Before its newest checkpoint is looked for: another program may be about to write one.
    let lock = args.resume.as_deref().map(|run| RunFolder::open(run)?.0.lock()).transpose()?;
    let (dev, ready) = launch::ready(&args)?;
    let planned = Planned::of(&dev, &ready);
    space::check(ready.place.path(), &planned.plan.disk)?;
    planned.check(&ready.config)?;
    // A program that reads JSON asks `calame plan --json`.
    let timed = if args.json { None } else { Some(planned.estimate(&ready.config)?) };
    let Ready { config, place, gpt, prepared } = ready;
    let description = prepared.description;
    // Before the folder: a run that does not fit into memory must not have replaced another one.
    let mut trainer = match gpt {
        Some(gpt) => Trainer::new(&dev, &config, gpt, prepared.splits),
        None => Trainer::fresh(&dev, &config, prepared.splits),
    };
    // The lock is held to the end.
    let (folder, _lock, metrics) = open(place, lock, &mut trainer, prepared.tokenizer.as_ref(), args.overwrite)?;
    let steps = (trainer.progress().n_steps, trainer.n_steps_total());
    let sample = config.sample.clone();
    let tokenizer = Arc::clone(&prepared.tokenizer);
    let mut follower = Follower::new(folder, metrics, tokenizer, sample, signals, args.json, steps)?;
    if let Some(timed) = &timed {
        introduce(&mut follower, &config, &trainer, &description, &planned.line(timed));
    }
    if config.log.tensorboard {
        follower.write_events();
    }
    if let (true, Some(timed)) = (args.tui, &timed) {
        let about = about(&follower, &config, &planned.plan, timed.rehearsal.peak);
        follower.show_dashboard(Screen::new(about, trainer.progress().n_steps))?;
    }
    let mut checkpoints = Checkpoints::new(&follower.folder.checkpoints(), &config.checkpoint);
    let outcome = trainer.run_saving(&mut checkpoints, &mut follower);
    follower.finish();
    match outcome.map_err(|error| ending::rescue(&follower, &trainer, &mut checkpoints, error))? {
        ended @ (Outcome::Finished | Outcome::StoppedEarly) => {
            if let Err(error) = checkpoints.wait() {
                // The result is about to be saved, and needs no checkpoint.
                follower.checkpoint_failed(&error);
            }
            ending::finish(&mut follower, &trainer, &dev, &prepared.train, ended)
                .map_err(|error| ending::rescue(&follower, &trainer, &mut checkpoints, error))
        }
        Outcome::Stopped => ending::stop(&mut follower, &trainer, &mut checkpoints),
        Outcome::Diverged { step, fault } => {
            Err(ending::diverged(&mut follower, &trainer, &mut checkpoints, step, fault))
        }
        Outcome::Lost { step, fault, reason } => Err(ending::lost(&mut follower, &trainer, step, fault, &reason)),
    }
}

/// Makes the folder of a new run, or brings that of a stopped one, whose lock is given, and the trainer to where it was
/// stopped.
fn open(
    place: Place,
    lock: Option<RunLock>,
    trainer: &mut Trainer<'_>,
    tokenizer: &dyn Tokenizer,
    overwrite: bool,
) -> Result<(RunFolder, RunLock, MetricsWriter)> {
    match place {
        Place::New(path) => {
            let folder = runs::create(&path, trainer.config(), &tokenizer.to_json(), overwrite)?;
            let lock = folder.lock()?;
            let metrics = MetricsWriter::create(&folder.metrics())?;
            Ok((folder, lock, metrics))
        }
        Place::Stopped(folder, checkpoint) => {
            let lock = lock.map_or_else(|| folder.lock(), Ok)?;
            clear_partial(&folder.checkpoints())?;
            trainer.resume(&checkpoint)?;
            let metrics = MetricsWriter::open_at_step(&folder.metrics(), trainer.progress())?;
            folder.write_config(trainer.config())?;
            folder.rewrite_samples(&metrics::read(&folder.metrics())?)?;
            Ok((folder, lock, metrics))
        }
    }
}

fn introduce(follower: &mut Follower, config: &RunConfig, trainer: &Trainer<'_>, text: &str, plan: &str) {
    let device = describe_device(&config.device);
    let n_parameters = grouped(config.model.n_parameters() as u64);
    let from = if config.init_from.is_empty() { String::new() } else { format!(", from {}", config.init_from) };
    follower.line(&format!("model  {}: {n_parameters} parameters{from}, {device}", config.preset));
    follower.line(&format!("text   {text}"));
    let (per_epoch, epochs) = (trainer.steps_per_epoch(), config.train.epochs);
    let n_tokens = config.data.batch_size.saturating_mul(config.data.window).saturating_mul(config.train.accumulate);
    follower.line(&format!(
        "steps  {per_epoch} an epoch, {} in all over {epochs} epoch{}, {} tokens each",
        grouped(per_epoch * epochs),
        if epochs == 1 { "" } else { "s" },
        grouped(n_tokens as u64)
    ));
    follower.line(plan);
    follower.line(&format!("run    {}", follower.folder.path().display()));
    match trainer.progress().n_steps {
        0 => follower.line(""),
        n => follower.line(&format!("going on after step {n}\n")),
    }
}

/// What the dashboard says of a run from its start to its end.
fn about(follower: &Follower, config: &RunConfig, plan: &Plan, peak: f64) -> About {
    let device = &config.device;
    About {
        run: follower.folder.path().display().to_string(),
        model: format!(
            "{}, {}, {} ({})",
            config.preset,
            device.precision,
            count(device.threads, "thread"),
            device.instruction_set
        ),
        n_steps_total: plan.n_steps,
        n_epochs: config.train.epochs,
        tokens_per_step: plan.tokens_per_step,
        step_operations: plan.step_operations,
        peak,
        planned_bytes: plan.memory_bytes(),
    }
}

/// `1 thread`, `2 threads`.
fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

pub fn describe_device(device: &DeviceConfig) -> String {
    let threads = count(device.threads, "thread");
    format!("{} on the {} with {threads} ({})", device.precision, device.device, device.instruction_set)
}
