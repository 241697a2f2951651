//! The end of a training: the model, the report on memorisation and the plot; or the state of one that is stopped or
//! fails.

use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, Result};
use calame::data::Windows;
use calame::formats::{CheckpointError, load_model};
use calame::infer::GenerateError;
use calame::ops::Device;
use calame::run::memorisation::{CopySearch, Memorised, RUN_LENGTH};
use calame::run::metrics::{self, Record};
use calame::run::{Overfitting, overfitting};
use calame::train::{Best, Checkpoints, Observer, Outcome, Progress, Remedy, StepFault, Trainer, sound_checkpoint};

use crate::training::interruption::Activity;
use crate::training::observer::{Follower, sample_tokens, unwrapped};
use crate::training::runs;
use crate::ui::invocation;
use crate::ui::output::{WithHint, count, duration, message, quoted, timestamp};

/// The remedy for a training that diverges.
const START_AGAIN: &str = "start again with a smaller learning rate, by --lr";

/// Saves the model of a training that has ended, and prints the results. `text` is the training text.
pub fn finish(
    follower: &mut Follower,
    trainer: &Trainer<'_>,
    dev: &Device,
    text: &Windows,
    ended: Outcome,
) -> Result<ExitCode> {
    let total_seconds = follower.recorder.seconds();
    follower.display().interruption.set_activity(Activity::Finishing);
    let best = follower.recorder.save_result(trainer).map_err(unwrapped)?;
    follower.display().interruption.set_activity(Activity::Done);
    let memorised = memorised(follower, trainer, dev, text, best.is_some())?;
    if let Some(record) = &memorised {
        follower.recorder.record(record).map_err(unwrapped)?;
    }
    // After the model is saved: if the metrics have an end, the run has a result.
    follower.recorder.end(trainer, best, total_seconds).map_err(unwrapped)?;
    follower.recorder.keep_last_state(trainer).map_err(unwrapped)?;
    let drawn = follower.recorder.draw().map_err(unwrapped);
    drawn.context("the model is saved, but the plot could not be drawn")?;
    let (run, model) = (follower.recorder.folder().path().to_owned(), follower.recorder.folder().model());
    if follower.display().json {
        let time = timestamp(SystemTime::now());
        let result = serde_json::json!({ "event": "result", "time": time, "run": run, "model": model });
        follower.line(&result.to_string());
        return Ok(ExitCode::SUCCESS);
    }
    follower.line(&format!("\ndone in {}", duration(total_seconds)));
    if ended == Outcome::StoppedEarly {
        let patience = trainer.config().early_stopping.patience;
        follower.line(&format!("stopped early: {patience} consecutive evaluations without a lower validation loss"));
    }
    memorised.iter().for_each(|record| print_memorised(follower, record));
    let which = best.map_or_else(String::new, |Best { step, val_loss, .. }| {
        format!(": the model with the best validation loss, {val_loss:.3} after step {step}")
    });
    follower.result(&format!("model  {}{which}", model.display()));
    note_overfitting(follower, trainer)?;
    follower.result(&format!("plot   {}", run.join("loss-plot.pdf").display()));
    if ended == Outcome::Finished && follower.recorder.folder().checkpoints().exists() {
        follower.line(&format!("more   {} {}", runs::resume_command(&run), more(trainer)));
    }
    let (run, prompt) = (quoted(&run.display().to_string()), quoted(&follower.sample.prompt));
    let next = invocation::command(&format!("generate --model {run} --context {prompt}"));
    follower.line(&format!("next   {next}"));
    Ok(ExitCode::SUCCESS)
}

/// The flags with which a finished run is trained further.
fn more(trainer: &Trainer<'_>) -> String {
    let train = &trainer.config().train;
    let is_limited = train.max_steps.is_some_and(|n| n < trainer.steps_per_epoch().saturating_mul(train.epochs));
    if is_limited {
        "--set train.max_steps=off".to_owned()
    } else {
        format!("--epochs {}", train.epochs.saturating_mul(2))
    }
}

/// Saves the state of a training that a signal has stopped, and prints the command that resumes it.
pub fn stop(follower: &mut Follower, trainer: &Trainer<'_>, checkpoints: &mut Checkpoints) -> Result<ExitCode> {
    follower.recorder.save_state(trainer, checkpoints).map_err(unwrapped)?;
    let run = follower.recorder.folder().path().to_owned();
    let n_steps = trainer.progress().n_steps;
    if follower.display().json {
        let time = timestamp(SystemTime::now());
        let result = serde_json::json!({ "event": "stopped", "time": time, "run": run, "n_steps": n_steps });
        follower.line(&result.to_string());
    } else {
        follower.result(&format!("\nstopped after step {n_steps}; the state is saved. To resume:"));
        follower.result(&format!("  {}", runs::resume_command(&run)));
    }
    Ok(follower.display().signals.exit_code())
}

/// Writes a checkpoint and waits until it is complete.
fn save_and_wait(trainer: &Trainer<'_>, checkpoints: &mut Checkpoints) -> Result<(), CheckpointError> {
    checkpoints.save(&trainer.savable())?;
    checkpoints.wait()
}

/// Reports a training that a failed step has ended.
///
/// Weights and moments are those before the failed step, and from there it would fail again. So the training can be
/// resumed from an earlier checkpoint or, if there is none, from the state before the failed step, which is then saved,
/// by skipping that step.
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
    let resume = runs::resume_command(follower.recorder.folder().path());
    let earlier = sound_checkpoint(&follower.recorder.folder().checkpoints()).ok().and_then(|(found, _)| found);
    let skips = trainer.config().guard.remedy == Remedy::Skip;
    let skip = "--set guard.remedy=skip, which skips such steps";
    let (state, how_to_resume) = match (earlier, trainer.gpt().first_not_finite(trainer.device())) {
        (Some(checkpoint), _) => {
            let lr = lower(trainer.config().train.lr);
            let change = if skips { String::new() } else { format!(" (or {skip})") };
            (
                format!("the last checkpoint is {}", checkpoint.display()),
                format!("resume from there with a smaller learning rate: {resume} --lr {lr}{change}; or "),
            )
        }
        (None, Some(name)) => (format!("{name} is no longer finite"), String::new()),
        (None, None) if step == 0 => ("no step was done yet".to_owned(), String::new()),
        (None, None) => match save_and_wait(trainer, checkpoints) {
            Ok(()) => {
                let by_skipping = format!("resume with {resume} {skip}; or ");
                ("the state before the step is saved".to_owned(), if skips { String::new() } else { by_skipping })
            }
            Err(error) => (format!("the state before the step could not be saved: {error}"), String::new()),
        },
    };
    let hint = format!("{how_to_resume}{START_AGAIN}");
    let error = WithHint::new(format!("step {step}: {fault}; the training diverged; {state}"), hint);
    with_unrecorded(error, recorded)
}

/// Half of a learning rate, with two digits.
fn lower(lr: f64) -> String {
    format!("{:.1e}", lr / 2.0)
}

/// Reports a training that a failed step has ended because the checkpoint to roll back to could not be read. Another
/// checkpoint can be resumed.
pub fn lost(
    follower: &mut Follower,
    trainer: &Trainer<'_>,
    step: u64,
    fault: StepFault,
    reason: &str,
) -> anyhow::Error {
    let recorded = follower.recorder.ended_by(trainer, step, fault).map_err(unwrapped);
    let problem = format!("step {step}: {fault}, and the checkpoint to roll back to could not be read: {reason}");
    let hint = format!("when that is repaired: {}", runs::resume_command(follower.recorder.folder().path()));
    with_unrecorded(WithHint::new(problem, hint), recorded)
}

/// The error that ended a training, with the reason if it could not be recorded in the metrics.
fn with_unrecorded(error: WithHint, recorded: Result<()>) -> anyhow::Error {
    match recorded {
        Ok(()) => error.into(),
        Err(unrecorded) => anyhow::Error::from(error).context(message(&unrecorded)),
    }
}

/// Saves the state of a training that an error ends, if possible, and adds the command that resumes it to the error.
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
    // An error of the checkpoint before does not matter once this one is complete.
    let _ = checkpoints.wait();
    if n_steps == 0 || follower.recorder.folder().model().exists() || save_and_wait(trainer, checkpoints).is_err() {
        return error;
    }
    let hint = format!(
        "the state after step {n_steps} is saved; when the cause is removed: {}",
        runs::resume_command(follower.recorder.folder().path())
    );
    WithHint::new(message(&error), hint).into()
}

/// How much of a sample is copied from the training text, or none if the run has no sample or a stop was requested.
/// The sample is the last one or, if the result is an earlier model, one by that model.
fn memorised(
    follower: &Follower,
    trainer: &Trainer<'_>,
    dev: &Device,
    text: &Windows,
    earlier: bool,
) -> Result<Option<Record>> {
    let (tokenizer, sample) = (follower.recorder.tokenizer().as_ref(), &follower.sample);
    let (tokens, n_prompt) = match follower.last_sample() {
        _ if sample.max_tokens == 0 || follower.recorder.listener().signals.stop_requested() => return Ok(None),
        _ if earlier => sample_tokens(dev, &load_model(&follower.recorder.folder().model())?.gpt, tokenizer, sample)?,
        Some(last) => last.clone(),
        None if !follower.recorder.folder().has_samples() => return Ok(None),
        // An earlier program wrote the last sample: write it again.
        None => sample_tokens(dev, trainer.gpt(), tokenizer, sample)?,
    };
    let is_blank = |id: u32| tokenizer.decode(&[id]).is_ok_and(|text| text.trim().is_empty());
    let blank = (0..tokenizer.n_vocab() as u32).filter(|id| is_blank(*id)).collect();
    let mut search = CopySearch::new(&tokens, n_prompt, blank);
    text.for_each_piece(|tokens| search.pass(tokens))?;
    let Memorised { n_tokens, n_copied, longest, n_longest } = search.found();
    let Progress { n_steps, epoch, .. } = *trainer.progress();
    let (step, longest, passage) = (n_steps.saturating_sub(1), n_longest, tokenizer.decode(&tokens[longest])?);
    Ok(Some(Record::Memorisation { step, epoch: epoch + 1, n_tokens, n_copied, longest, passage }))
}

/// Prints the record of [`memorised`] as a line for people.
fn print_memorised(follower: &mut Follower, record: &Record) {
    let Record::Memorisation { n_tokens, n_copied, longest, passage, .. } = record else { return };
    follower.line(&format!("copied {}", describe_copies(*n_tokens, *n_copied, *longest, passage)));
}

/// What was found in a sample of `n_tokens` tokens, white space not counted.
fn describe_copies(n_tokens: usize, n_copied: usize, longest: usize, passage: &str) -> String {
    match longest {
        0 if n_tokens == 0 => "nothing: the last sample is only white space".to_owned(),
        0 if n_tokens < RUN_LENGTH => format!(
            "unknown: the last sample has {}, too few for a passage of {RUN_LENGTH}; --set sample.max_tokens=50 writes longer \
             ones",
            count(n_tokens, "token")
        ),
        0 => {
            format!("nothing: no passage of {RUN_LENGTH} tokens or more of the last sample occurs in the training text")
        }
        n => {
            let words: Vec<&str> = passage.split_whitespace().collect();
            format!(
                "{n_copied} of the {n_tokens} tokens of the last sample, in passages of {RUN_LENGTH} tokens or more that occur \
                 in the training text; the longest has {n}: \"{}\"",
                words.join(" ")
            )
        }
    }
}

/// Suggests early stopping if the model has memorised its text.
fn note_overfitting(follower: &mut Follower, trainer: &Trainer<'_>) -> Result<()> {
    if trainer.config().early_stopping.is_on() {
        return Ok(());
    }
    let records = metrics::read(&follower.recorder.folder().metrics())?;
    if let Some(Overfitting { best_step, best_val_loss, last_val_loss }) = overfitting(&records) {
        follower.line(&format!(
            "note   the validation loss was lowest after step {best_step}, {best_val_loss:.3}, and is {last_val_loss:.3} now, \
             while the training loss has fallen: the model memorises the text; --recipe small-data stops in time and keeps \
             the best model",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_described_for_every_kind_of_sample() {
        let found = |n_tokens, n_copied, longest, passage| describe_copies(n_tokens, n_copied, longest, passage);
        assert!(found(0, 0, 0, "").contains("only white space"));
        assert!(found(6, 0, 0, "").starts_with("unknown: the last sample has 6 tokens, too few for a passage of 8"));
        assert!(found(50, 0, 0, "").starts_with("nothing: no passage of 8 tokens"));
        let text = found(50, 38, 21, "  one of\n\n the   axioms ");
        assert!(text.starts_with("38 of the 50 tokens") && text.ends_with("has 21: \"one of the axioms\""), "{text}");
        // A short sample that continues a copied prompt.
        assert!(found(6, 6, 9, "the lamp").starts_with("6 of the 6 tokens"));
    }
}
