//! What becomes of a training at its end: the model, what it has learnt by heart, the plot; or the state of one that stops.

use std::process::ExitCode;

use anyhow::{Context, Result};
use calame::checkpoint::{Best, CheckpointError, Progress, load_model, sound_checkpoint};
use calame::data::Windows;
use calame::infer::GenerateError;
use calame::ops::Device;
use calame::train::memorisation::{CopySearch, Memorised, RUN_LENGTH};
use calame::train::metrics::Record;
use calame::train::{Checkpoints, Observer, Outcome, Remedy, StepFault, Trainer};

use crate::training::observer::{Follower, sample_tokens, unwrapped};
use crate::training::runs;
use crate::ui::output::{WithHint, duration, message, quoted};

/// Tokens of a text of about a megabyte.
const SMALL_TOKENS: usize = 250_000;
/// Nats a token by which validation must have turned up to be spoken of.
const NOTICEABLE: f32 = 0.02;
/// What helps a training that diverges.
const START_AGAIN: &str = "start again with a smaller learning rate, by --lr";

/// Saves the model of a training that has ended and tells what it gave; `text` is what it was trained on.
pub fn finish(
    follower: &mut Follower,
    trainer: &Trainer<'_>,
    dev: &Device,
    text: &Windows,
    ended: Outcome,
) -> Result<ExitCode> {
    let total_seconds = follower.recorder.seconds();
    let best = follower.recorder.save_result(trainer).map_err(unwrapped)?;
    let memorised = memorised(follower, trainer, dev, text, best.is_some())?;
    if let Some(record) = &memorised {
        follower.recorder.record(record).map_err(unwrapped)?;
    }
    // After the model: a run whose metrics have an end has a result.
    follower.recorder.end(trainer.progress(), best, total_seconds).map_err(unwrapped)?;
    follower.recorder.folder().remove_checkpoints()?;
    let drawn = follower.recorder.draw().map_err(unwrapped);
    drawn.context("the model is saved, but the plot could not be drawn")?;
    let (run, model) = (follower.recorder.folder().path().to_owned(), follower.recorder.folder().model());
    if follower.display().json {
        let result = serde_json::json!({ "event": "result", "run": run, "model": model });
        follower.line(&result.to_string());
        return Ok(ExitCode::SUCCESS);
    }
    follower.line(&format!("\ndone in {}", duration(total_seconds)));
    if ended == Outcome::StoppedEarly {
        let patience = trainer.config().early_stopping.patience;
        follower.line(&format!("ended early: {patience} evaluations in a row without a lower validation loss"));
    }
    memorised.iter().for_each(|record| tell_memorised(follower, record));
    let which = best.map_or_else(String::new, |Best { step, val_loss, .. }| {
        format!(": the one with the best validation loss, {val_loss:.3} after step {step}")
    });
    follower.line(&format!("model  {}{which}", model.display()));
    suggest_early_stopping(follower, trainer);
    follower.line(&format!("plot   {}", run.join("loss-plot.pdf").display()));
    let (run, prompt) = (quoted(&run.display().to_string()), quoted(&follower.sample.prompt));
    follower.line(&format!("next   calame generate --model {run} --context {prompt}"));
    Ok(ExitCode::SUCCESS)
}

/// Saves the state of a training that was asked to stop.
pub fn stop(follower: &mut Follower, trainer: &Trainer<'_>, checkpoints: &mut Checkpoints) -> Result<ExitCode> {
    follower.recorder.save_state(trainer, checkpoints).map_err(unwrapped)?;
    let run = follower.recorder.folder().path().to_owned();
    let n_steps = trainer.progress().n_steps;
    if follower.display().json {
        let result = serde_json::json!({ "event": "stopped", "run": run, "n_steps": n_steps });
        follower.line(&result.to_string());
    } else {
        follower.line(&format!("\nstopped after step {n_steps}; everything is saved. To go on:"));
        follower.line(&format!("  {}", runs::resume_command(&run)));
    }
    Ok(follower.display().signals.exit_code())
}

/// Writes the state and waits until it is complete.
fn save_whole(trainer: &Trainer<'_>, checkpoints: &mut Checkpoints) -> Result<(), CheckpointError> {
    checkpoints.save(&trainer.savable())?;
    checkpoints.wait()
}

/// Weights and moments are those before the step that failed, which would fail again from there: what can be gone on with is
/// an earlier checkpoint, or, where there is none, this state without that step.
pub fn diverged(
    follower: &mut Follower,
    trainer: &Trainer<'_>,
    checkpoints: &mut Checkpoints,
    step: u64,
    fault: StepFault,
) -> anyhow::Error {
    let recorded = follower.recorder.ended_by(trainer, step, fault).map_err(unwrapped);
    if let Err(error) = checkpoints.wait() {
        follower.checkpoint_failed(&error);
    }
    let (run, resume) = (follower.recorder.folder().path(), runs::resume_command(follower.recorder.folder().path()));
    let settings = run.join("config.toml").display().to_string();
    let earlier = sound_checkpoint(&follower.recorder.folder().checkpoints()).ok().and_then(|(found, _)| found);
    let skips = trainer.config().guard.remedy == Remedy::Skip;
    let skip = "guard.remedy = \"skip\" passes over such steps";
    let (state, go_on) = match (earlier, trainer.gpt().first_not_finite(trainer.device())) {
        (Some(checkpoint), _) => {
            let change = if skips { "a smaller train.lr".to_owned() } else { format!("a smaller train.lr ({skip})") };
            (
                format!("{} stands", checkpoint.display()),
                format!("set {change} in {settings} and go on from there: {resume}; or "),
            )
        }
        (None, Some(name)) => (format!("{name} is not finite any more"), String::new()),
        (None, None) if step == 0 => ("nothing was learnt yet".to_owned(), String::new()),
        (None, None) => match save_whole(trainer, checkpoints) {
            Ok(()) => {
                let go_on = format!("{skip}: set it in {settings} and go on: {resume}; or ");
                ("the training's state before it is saved".to_owned(), if skips { String::new() } else { go_on })
            }
            Err(error) => (format!("the training's state before it could not be saved: {error}"), String::new()),
        },
    };
    let hint = format!("{go_on}{START_AGAIN}");
    let error = WithHint::new(format!("step {step}: {fault}; the training diverged; {state}"), hint);
    with_unrecorded(error, recorded)
}

/// Neither the weights nor a state to go back to are there: what checkpoints stand can be resumed.
pub fn lost(
    follower: &mut Follower,
    trainer: &Trainer<'_>,
    step: u64,
    fault: StepFault,
    reason: &str,
) -> anyhow::Error {
    let recorded = follower.recorder.ended_by(trainer, step, fault).map_err(unwrapped);
    let problem = format!("step {step}: {fault}, and the checkpoint to go back to could not be read: {reason}");
    let hint = format!("when that is mended: {}", runs::resume_command(follower.recorder.folder().path()));
    with_unrecorded(WithHint::new(problem, hint), recorded)
}

/// How a training ended, and why that could not be written down, if it could not.
fn with_unrecorded(error: WithHint, recorded: Result<()>) -> anyhow::Error {
    match recorded {
        Ok(()) => error.into(),
        Err(unrecorded) => anyhow::Error::from(error).context(message(&unrecorded)),
    }
}

/// What a training that ends by an error has learnt is not lost with it: its state is saved, if that can be.
pub fn rescue(
    follower: &Follower,
    trainer: &Trainer<'_>,
    checkpoints: &mut Checkpoints,
    error: anyhow::Error,
) -> anyhow::Error {
    if error.is::<GenerateError>() {
        return WithHint::new(format!("no sample can be written: {}", message(&error)), START_AGAIN).into();
    }
    let n_steps = trainer.progress().n_steps;
    // What became of the one before is of no interest once this one is complete.
    let _ = checkpoints.wait();
    if n_steps == 0 || follower.recorder.folder().model().exists() || save_whole(trainer, checkpoints).is_err() {
        return error;
    }
    let hint = format!(
        "the training's state after step {n_steps} is saved; when that is mended: {}",
        runs::resume_command(follower.recorder.folder().path())
    );
    WithHint::new(message(&error), hint).into()
}

/// How much of a sample stands word for word in the text that was trained on; None where there are no samples. The sample is
/// the last one, or, where the result is an earlier model, one of that.
fn memorised(
    follower: &Follower,
    trainer: &Trainer<'_>,
    dev: &Device,
    text: &Windows,
    earlier: bool,
) -> Result<Option<Record>> {
    let (tokenizer, sample) = (follower.recorder.tokenizer().as_ref(), &follower.sample);
    let (tokens, n_prompt) = match follower.last_sample() {
        _ if sample.max_tokens == 0 => return Ok(None),
        _ if earlier => sample_tokens(dev, &load_model(&follower.recorder.folder().model())?.gpt, tokenizer, sample)?,
        Some(last) => last.clone(),
        // The program that wrote it was stopped after it.
        None => sample_tokens(dev, trainer.gpt(), tokenizer, sample)?,
    };
    let mut search = CopySearch::new(&tokens, n_prompt);
    text.for_each_piece(|tokens| search.pass(tokens))?;
    let Memorised { n_tokens, n_copied, longest } = search.found();
    let Progress { n_steps, epoch, .. } = *trainer.progress();
    let (step, longest, passage) =
        (n_steps.saturating_sub(1), longest.len(), tokenizer.decode(&tokens[longest.clone()])?);
    Ok(Some(Record::Memorisation { step, epoch: epoch + 1, n_tokens, n_copied, longest, passage }))
}

/// The same for people.
fn tell_memorised(follower: &mut Follower, record: &Record) {
    let Record::Memorisation { n_tokens, n_copied, longest, passage, .. } = record else { return };
    let found = match *longest {
        0 => format!("no {RUN_LENGTH} tokens of the last sample in a row stand in the training text"),
        n => {
            let passage = passage.replace('\n', " ");
            format!(
                "{n_copied} of the last sample's {n_tokens} tokens stand word for word in the training text; the longest \
                 passage has {n}: \"{}\"",
                passage.trim()
            )
        }
    };
    follower.line(&format!("copied {found}"));
}

/// Says so if a small text was learnt by heart at validation's expense.
fn suggest_early_stopping(follower: &mut Follower, trainer: &Trainer<'_>) {
    let Some(best) = trainer.progress().best else { return };
    let Some((train, last)) = follower.last_losses else { return };
    let small = trainer.n_train_tokens() < SMALL_TOKENS;
    // Where training's loss is no better than validation's, something else has gone wrong.
    let by_heart = last > best.val_loss + NOTICEABLE && train < last - NOTICEABLE;
    if small && by_heart && !trainer.config().early_stopping.is_on() {
        follower.line(&format!(
            "note   validation was best after step {}, {:.3}, and is {last:.3} now: the text is small, and is being learnt \
             by heart; --recipe small-data keeps the best model",
            best.step, best.val_loss
        ));
    }
}
