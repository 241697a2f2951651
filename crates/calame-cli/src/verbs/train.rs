//! `calame train`: trains a model, or resumes its training.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use calame::plan::Plan;
use calame::run::{Recorder, RunFolder, RunLock};
use calame::tokenizer::Tokenizer;
use calame::train::{Checkpoints, Observer, Outcome, RunConfig, Trainer};

use crate::training::args::TrainArgs;
use crate::training::launch::{self, Ready, RunTarget};
use crate::training::observer::{Follower, unwrapped};
use crate::training::planned::Planned;
use crate::training::signals::Signals;
use crate::training::{device, ending, runs, space};
use crate::ui::display::Display;
use crate::ui::output::{count, grouped};
use crate::ui::tui::{self, About, Screen};
use crate::ui::verbosity;

/// Train a GPT on a text.
///
/// Without flags, this repeats the report, an account of training the model of Sebastian Raschka's book (Build a Large
/// Language Model From Scratch) on one short story: a GPT of 163M parameters, ten epochs of windows of 256 tokens in
/// batches of 4, AdamW at 4e-4, an evaluation every 5 steps and a sample after every epoch. The text is a built-in story
/// of 21,690 characters. The result is RUN/model; the loss plot and the samples are in RUN too.
///
/// Ctrl-C stops after the current step, saves the state, and prints the command that resumes the run.
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
  # resume after Ctrl-C
  calame train --resume runs/2026-11-23-book
  # all settings, each with its explanation
  calame config > my.toml"
)]
pub struct Args {
    #[command(flatten)]
    training: TrainArgs,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let args = args.training;
    let signals = Signals::listen()?;
    if args.tui {
        tui::check_terminal()?;
    }
    // Locked before its newest checkpoint is selected: another program may be about to write one.
    let lock = args.resume.as_deref().map(|run| RunFolder::open(run)?.0.lock()).transpose()?;
    let (dev, ready) = launch::ready(&args)?;
    let planned = Planned::of(&dev, &ready);
    space::check(ready.target.path(), &planned.plan.disk)?;
    planned.check(&ready.config)?;
    // The estimate is for people: programs use `calame plan --json`.
    let timed = if args.json { None } else { Some(planned.estimate(&ready.config)?) };
    let Ready { config, target, gpt, prepared } = ready;
    let description = prepared.description;
    // Made before the folder: a run that does not fit into memory must not replace another one.
    let mut trainer = match gpt {
        Some(gpt) => Trainer::new(&dev, &config, gpt, prepared.splits),
        None => Trainer::fresh(&dev, &config, prepared.splits),
    };
    let recorder = open_run(target, lock, &mut trainer, Arc::clone(&prepared.tokenizer), args.overwrite)?;
    let steps = (trainer.progress().n_steps, trainer.n_steps_total());
    let mut follower = Follower::new(recorder, config.sample.clone(), Display::new(signals, args.json, steps)?);
    if let Some(timed) = &timed {
        print_introduction(&mut follower, &config, &trainer, &description, &planned.line(timed));
    }
    if config.log.tensorboard {
        follower.write_events();
    }
    if let (true, Some(timed)) = (args.tui, &timed) {
        let about = about(&follower, &config, &planned.plan, timed.rehearsal.peak);
        follower.show_dashboard(Screen::new(about, trainer.progress().n_steps))?;
    }
    let mut checkpoints = Checkpoints::new(&follower.recorder.folder().checkpoints(), &config.checkpoint);
    let phase = verbosity::phase("training");
    let outcome = trainer.run_saving(&mut checkpoints, &mut follower);
    follower.display().finish();
    drop(phase);
    match outcome.map_err(|error| ending::rescue(&follower, &trainer, &mut checkpoints, error))? {
        ended @ (Outcome::Finished | Outcome::StoppedEarly) => {
            if let Err(error) = checkpoints.wait() {
                // Not fatal: the result is about to be saved.
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

/// Creates the folder of a new run or, for a stopped one, whose lock is given, restores its folder and the trainer to
/// the checkpoint. The recorder holds the lock until the end.
fn open_run(
    target: RunTarget,
    lock: Option<RunLock>,
    trainer: &mut Trainer<'_>,
    tokenizer: Arc<dyn Tokenizer>,
    overwrite: bool,
) -> Result<Recorder> {
    let start = Instant::now();
    let clock = Box::new(move || start.elapsed());
    match target {
        RunTarget::New(path) => {
            runs::check_free(&path, overwrite)?;
            Recorder::create(&path, trainer.config(), tokenizer, overwrite, clock)
        }
        RunTarget::Stopped(folder, checkpoint) => {
            let lock = lock.map_or_else(|| folder.lock(), Ok)?;
            Recorder::resume(folder, lock, &checkpoint, trainer, tokenizer, clock)
        }
    }
    .map_err(unwrapped)
}

/// Prints the model, the text, the steps, the plan and the run's folder, before the first step.
fn print_introduction(follower: &mut Follower, config: &RunConfig, trainer: &Trainer<'_>, text: &str, plan: &str) {
    let device = device::describe(&config.device);
    let n_parameters = grouped(config.model.n_parameters() as u64);
    let from = if config.init_from.is_empty() { String::new() } else { format!(", from {}", config.init_from) };
    follower.line(&format!("model  {}: {n_parameters} parameters{from}, {device}", config.preset));
    follower.line(&format!("text   {text}"));
    let (per_epoch, epochs) = (trainer.steps_per_epoch(), config.train.epochs);
    let n_tokens = config.data.batch_size.saturating_mul(config.data.window).saturating_mul(config.train.accumulate);
    follower.line(&format!(
        "steps  {per_epoch} per epoch, {} total over {epochs} epoch{}, {} tokens per step",
        grouped(per_epoch * epochs),
        if epochs == 1 { "" } else { "s" },
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
fn about(follower: &Follower, config: &RunConfig, plan: &Plan, peak: f64) -> About {
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
        peak,
        planned_bytes: plan.memory_bytes(),
    }
}
