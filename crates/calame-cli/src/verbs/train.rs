//! `calame train`: trains a model, or resumes its training.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result};
use calame::data::Windows;
use calame::ops::Device;
use calame::plan::Plan;
use calame::run::{Recorder, RunFolder, RunLock};
use calame::tokenizer::Tokenizer;
use calame::train::{Checkpoints, Observer, Outcome, RunConfig, Trainer};

use crate::training::args::TrainArgs;
use crate::training::interruption::Interruption;
use crate::training::launch::{self, Purpose};
use crate::training::observer::{Follower, unwrapped};
use crate::training::planned::{Planned, Timed};
use crate::training::ready::{Ready, RunTarget};
use crate::training::signals::Signals;
use crate::training::{advice, device, ending, space};
use crate::ui::display::Display;
use crate::ui::output::{count, grouped, steps_over, timestamp};
use crate::ui::tui::{self, About, Screen};
use crate::ui::verbosity;

/// Train a GPT on a text.
///
/// Without flags, this repeats the report, an account of training the model of Sebastian Raschka's book (Build a Large
/// Language Model From Scratch) on one short story: a GPT of 163M parameters, ten epochs of windows of 256 tokens in
/// batches of 4, AdamW at 4e-4, an evaluation every 5 steps and a sample after every epoch. The text is a built-in story
/// of 21,690 characters. The result is RUN/model; the loss plot and the samples are in RUN too.
///
/// Ctrl-C stops after the current step, saves the state, and prints the command that resumes the run; a second Ctrl-C
/// quits without saving.
#[derive(clap::Args, Debug)]
#[command(
    allow_negative_numbers = true,
    after_help = "Examples:
  # the default: 163M parameters, on the built-in story
  calame train
  # a small model, in a minute or two
  calame train --preset tiny
  # stops when validation no longer improves; keeps the best model
  calame train --data letters.txt --recipe small-data
  # The Verdict, downloaded once
  calame train --data the-verdict
  calame train --data notes/ --data more.txt --epochs 20 --lr 1e-4
  calame train --init-from runs/2026-11-23-book --data letters.txt --lr 5e-5
  # a short trial: it ends after 100 steps
  calame train --preset tiny --set train.max_steps=100
  # resume after Ctrl-C
  calame train --resume runs/2026-11-23-book
  # train a finished run further
  calame train --resume runs/2026-11-23-book --epochs 20
  # all settings, each with its explanation
  calame config > my.toml"
)]
pub struct Args {
    #[command(flatten)]
    training: TrainArgs,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let args = args.training;
    let signals = Signals::listen_later()?;
    if args.tui {
        tui::check_terminal()?;
    }
    // Locked before its newest checkpoint is selected: another program may be about to write one. A new run is locked
    // before the first look at its path.
    let stopped_lock = args.resume.as_deref().map(|run| RunFolder::open(run)?.0.lock()).transpose()?;
    let (dev, ready) = launch::ready(&args, Purpose::Training)?;
    let planned = Planned::of(&dev, &ready);
    space::check(ready.target.path(), &planned.plan.disk)?;
    planned.check(&ready.config)?;
    // The estimate is for people: programs use `calame plan --json`.
    let timed = if args.json { None } else { Some(planned.estimate(&ready.config)?) };
    advice::on_a_large_text(&ready, &planned, timed.as_ref());
    let Ready { config, target, lock, gpt, prepared } = ready;
    let lock = lock.or(stopped_lock).context("the run is not locked")?;
    let description = prepared.description;
    // Made before the folder: a run that does not fit into memory must not replace another one.
    let mut trainer = match gpt {
        Some(gpt) => Trainer::new(&dev, &config, gpt, prepared.splits),
        None => Trainer::fresh(&dev, &config, prepared.splits),
    };
    let recorder = open_run(target, lock, &mut trainer, Arc::clone(&prepared.tokenizer), args.overwrite)?;
    let steps = (trainer.progress().n_steps, trainer.n_steps_total());
    let interruption = Interruption::new(recorder.folder().checkpoints(), state_bytes(&config), steps.0, args.json);
    let display = Display::new(signals, interruption, args.json, steps)?;
    let mut follower = Follower::new(recorder, config.sample.clone(), display);
    match &timed {
        Some(timed) => print_introduction(&mut follower, &config, &trainer, &description, &planned.line(timed)),
        None => print_start_event(&mut follower, &trainer, &planned),
    }
    if config.log.tensorboard {
        follower.write_events();
    }
    if let (true, Some(timed)) = (args.tui, &timed) {
        let about = about(&follower, &config, &planned.plan, timed);
        follower.show_dashboard(Screen::new(about, trainer.progress().n_steps))?;
    }
    train(&mut trainer, &mut follower, &dev, &prepared.train)
}

/// The size of a checkpoint: weights and two moments of each parameter.
fn state_bytes(config: &RunConfig) -> u64 {
    (config.model.n_parameters() as u64).saturating_mul(12)
}

/// Trains to the end, and saves the result or the state. `text` is the training text.
fn train(trainer: &mut Trainer<'_>, follower: &mut Follower, dev: &Device, text: &Windows) -> Result<ExitCode> {
    let config = trainer.config();
    let mut checkpoints = Checkpoints::new(&follower.recorder.folder().checkpoints(), &config.checkpoint);
    let phase = verbosity::phase("training");
    let outcome = trainer.run_saving(&mut checkpoints, follower);
    follower.display().finish();
    drop(phase);
    match outcome.map_err(|error| ending::rescue(follower, trainer, &mut checkpoints, error))? {
        ended @ (Outcome::Finished | Outcome::StoppedEarly) => {
            if let Err(error) = checkpoints.wait() {
                // Not fatal: the result is about to be saved.
                follower.checkpoint_failed(&error);
            }
            ending::finish(follower, trainer, dev, text, ended)
                .map_err(|error| ending::rescue(follower, trainer, &mut checkpoints, error))
        }
        Outcome::Stopped => ending::stop(follower, trainer, &mut checkpoints),
        Outcome::Diverged { step, fault } => Err(ending::diverged(follower, trainer, &mut checkpoints, step, fault)),
        Outcome::Lost { step, fault, reason } => Err(ending::lost(follower, trainer, step, fault, &reason)),
    }
}

/// Prints the first event: everything that a program needs to follow the run.
fn print_start_event(follower: &mut Follower, trainer: &Trainer<'_>, planned: &Planned) {
    let event = serde_json::json!({
        "event": "start",
        "time": timestamp(SystemTime::now()),
        "pid": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
        "run": follower.recorder.folder().path(),
        "n_steps_done": trainer.progress().n_steps,
        "config": trainer.config(),
        "plan": planned.as_json(None),
    });
    follower.line(&event.to_string());
}

/// Creates the folder of a new run or, for a stopped one, restores its folder and the trainer to the checkpoint. The
/// recorder holds the lock of the run until the end.
fn open_run(
    target: RunTarget,
    lock: RunLock,
    trainer: &mut Trainer<'_>,
    tokenizer: Arc<dyn Tokenizer>,
    overwrite: bool,
) -> Result<Recorder> {
    let start = Instant::now();
    let clock = Box::new(move || start.elapsed());
    match target {
        RunTarget::New(path) => Recorder::create_locked(&path, lock, trainer.config(), tokenizer, overwrite, clock),
        RunTarget::Stopped(folder, checkpoint) => {
            Recorder::resume(folder, lock, &checkpoint, trainer, tokenizer, clock)
        }
    }
    .map_err(unwrapped)
}

/// Prints the model, the text, the steps, the plan and the run's folder, before the first step.
fn print_introduction(follower: &mut Follower, config: &RunConfig, trainer: &Trainer<'_>, text: &str, plan: &str) {
    let device = device::describe(&config.device);
    let n_parameters = grouped(config.model.n_parameters() as u64);
    let from = if config.init_from.is_empty() { String::new() } else { format!(", from {}", shown(&config.init_from)) };
    follower.line(&format!("model  {}: {n_parameters} parameters{from}, {device}", config.preset));
    follower.line(&format!("text   {text}"));
    let (per_epoch, epochs) = (trainer.steps_per_epoch(), config.train.epochs);
    let n_tokens = config.data.batch_size.saturating_mul(config.data.window).saturating_mul(config.train.accumulate);
    follower.line(&format!(
        "steps  {per_epoch} per epoch, {}, {} tokens per step",
        steps_over(trainer.n_steps_total(), per_epoch, epochs),
        grouped(n_tokens as u64)
    ));
    follower.line(plan);
    follower.line(&format!("run    {}", follower.recorder.folder().path().display()));
    match trainer.progress().n_steps {
        0 => follower.line(""),
        n => follower.line(&format!("resuming after step {n}\n")),
    }
}

/// The figures of the dashboard that do not change during the run.
fn about(follower: &Follower, config: &RunConfig, plan: &Plan, timed: &Timed) -> About {
    let device = &config.device;
    About {
        run: follower.recorder.folder().path().display().to_string(),
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
        peak: timed.rehearsal.peak,
        planned_bytes: plan.memory_bytes(),
        state_bytes: state_bytes(config),
    }
}

/// A path, relative to the working directory if it is below it.
fn shown(path: &str) -> String {
    let folder = std::env::current_dir().unwrap_or_default();
    Path::new(path).strip_prefix(folder).map_or_else(|_| path.to_owned(), |below| below.display().to_string())
}
