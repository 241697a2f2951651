//! Prepares a stopped or finished run to continue its training.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use calame::data::Splits;
use calame::device::Workload;
use calame::model::Gpt;
use calame::ops::{Device, Isa};
use calame::plan::loading_bytes;
use calame::run::RunFolder;
use calame::run::metrics::{self, Record};
use calame::tensor::Alloc;
use calame::tokenizer;
use calame::train::{ChangedSetting, Progress, RunConfig, checkpoint_progress, sound_checkpoint};

use super::args::TrainArgs;
use super::ready::{Ready, RunTarget};
use super::settings::{self, absolute_inputs};
use super::text::{self, Prepared};
use super::{device, memory, runs};
use crate::ui::output::{WithHint, message, note, quoted};
use crate::ui::verbosity;

/// Prepares the run in the folder `path`, with the changes that the flags request.
///
/// # Errors
/// If it has no checkpoint, a setting was changed that would not continue the training, or its text is missing or
/// another one.
pub fn prepare(path: &Path, args: &TrainArgs) -> Result<(Device, Ready)> {
    verbosity::opened(path);
    let (folder, in_folder) = RunFolder::open(path)?;
    let Some(checkpoint) = checkpoint_to_resume(&folder)? else { bail!(no_checkpoint(&folder, &in_folder)) };
    let (_, saved) = RunFolder::open(&checkpoint)?;
    let mut config = settings::changed(&in_folder, &args.requested())?;
    let mut changes = config.changes_since(&saved)?;
    // What a path leads to is compared by the text's hash.
    changes.retain(|change| change.key != "data.inputs");
    check_changes(&changes, path, &checkpoint)?;
    settings::check(&config)?;
    let progress = checkpoint_progress(&checkpoint)?;
    check_is_unfinished(&folder, &config, &progress)?;
    if !changes.is_empty() {
        note(&format!("settings that differ from the checkpoint's: {}", list(&changes)));
    }
    let dev = reopen_device(&mut config, args)?;
    let prepared = prepare_text(&folder, &mut config)?;
    check_steps_left(&folder, &config, &progress, &prepared.splits)?;
    memory::require("the model", loading_bytes(&config.model), "resume it on a larger machine")?;
    let gpt = Some(Gpt::zeros(&config.model, &mut Alloc::on(&dev)));
    Ok((dev, Ready { config, target: RunTarget::Stopped(folder, checkpoint), lock: None, gpt, prepared }))
}

/// The newest undamaged checkpoint. Prints a warning for each newer one that is damaged.
fn checkpoint_to_resume(folder: &RunFolder) -> Result<Option<PathBuf>> {
    let (found, damaged) = sound_checkpoint(&folder.checkpoints())?;
    let Some(checkpoint) = found else {
        // If all are damaged, the error of the newest.
        return damaged.into_iter().next().map_or(Ok(None), |error| Err(error.into()));
    };
    verbosity::opened(&checkpoint);
    for error in &damaged {
        note(&format!("warning: {error}; using the checkpoint before it"));
    }
    Ok(Some(checkpoint))
}

fn no_checkpoint(folder: &RunFolder, config: &RunConfig) -> WithHint {
    let run = folder.path().display();
    let hint = if is_finished(folder) {
        let text: String = config.data.inputs.iter().map(|input| format!(" --data {}", quoted(input))).collect();
        let model = quoted(&run.to_string());
        format!(
            "it is finished, and its last state was not kept; to train its model further: calame train --init-from \
             {model}{text}"
        )
    } else {
        "it ended before its first checkpoint: start it again with --overwrite".to_owned()
    };
    WithHint::new(format!("{run} has no checkpoint to resume from"), hint)
}

/// Whether the run has a result, so that only more steps can follow.
fn is_finished(folder: &RunFolder) -> bool {
    let ended = |record: &Record| matches!(record, Record::End { .. });
    folder.model().exists() && metrics::read(&folder.metrics()).is_ok_and(|records| records.iter().any(ended))
}

/// Refuses changes after which the training would not continue what the checkpoint holds. Each is named, with its value
/// in the checkpoint.
fn check_changes(changes: &[ChangedSetting], run: &Path, checkpoint: &Path) -> Result<()> {
    let refused: Vec<String> = changes
        .iter()
        .filter_map(|change| {
            let ChangedSetting { key, saved, now } = change;
            Some(format!("{key} is {now:?}, the checkpoint has {saved:?}: {}", change.refusal()?))
        })
        .collect();
    if refused.is_empty() {
        return Ok(());
    }
    let hint = format!("restore the values of {}/config.toml, or start a new run", checkpoint.display());
    bail!(WithHint::new(format!("{} cannot be resumed: {}", run.display(), refused.join("; ")), hint))
}

/// The changes in one line, such as `train.epochs 10 → 20, train.lr 0.01 → 0.003`.
fn list(changes: &[ChangedSetting]) -> String {
    let shown = |text: &str| if text.is_empty() { "none".to_owned() } else { text.to_owned() };
    let one = |c: &ChangedSetting| format!("{} {} → {}", c.key, shown(&c.saved), shown(&c.now));
    changes.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Refuses a run that has stopped early and would stop again at once.
fn check_is_unfinished(folder: &RunFolder, config: &RunConfig, progress: &Progress) -> Result<()> {
    let patience = config.early_stopping.patience;
    if patience == 0 || progress.best.is_none_or(|best| best.n_since < patience) || !is_finished(folder) {
        return Ok(());
    }
    let run = folder.path();
    let resume = runs::resume_command(run);
    bail!(WithHint::new(
        format!(
            "{} has stopped early: {patience} consecutive evaluations without a lower validation loss",
            run.display()
        ),
        format!("{resume} --set early_stopping.patience={} trains it further", 2 * patience)
    ))
}

/// Refuses a finished run to which no steps were added.
fn check_steps_left(folder: &RunFolder, config: &RunConfig, progress: &Progress, splits: &Splits) -> Result<()> {
    let per_epoch = splits.train.n_batches().div_ceil(config.train.accumulate) as u64;
    let epochs = config.train.epochs;
    if progress.n_steps < config.train.n_steps(per_epoch) || !is_finished(folder) {
        return Ok(());
    }
    let run = folder.path();
    if let Some(max_steps) = config.train.max_steps.filter(|_| progress.n_steps < per_epoch.saturating_mul(epochs)) {
        bail!(WithHint::new(
            format!(
                "{} is finished: it has completed {} steps, and train.max_steps is {max_steps}",
                run.display(),
                progress.n_steps
            ),
            format!("{} --set train.max_steps=off trains it to the end of its epochs", runs::resume_command(run))
        ));
    }
    // Twice the epochs that it has completed, which may be more than the settings say now.
    let n_done = progress.n_steps.div_ceil(per_epoch.max(1));
    bail!(WithHint::new(
        format!("{} is finished: it has completed {n_done} epochs, and train.epochs is {epochs}", run.display()),
        format!("{} --epochs {} trains it further", runs::resume_command(run), n_done.saturating_mul(2))
    ))
}

/// Loads the text of the run, which must be the one that it was trained on.
fn prepare_text(folder: &RunFolder, config: &mut RunConfig) -> Result<Prepared> {
    let run = folder.path();
    let hint = format!(
        "if the text was moved, give its new path: {} --data PATH; its contents must be the same",
        runs::resume_command(run)
    );
    let file = run.join(RunFolder::TOKENIZER);
    let tokenizer = tokenizer::read_json(&folder.tokenizer_json()?, &file)?;
    let prepared = text::prepare(config, Some(tokenizer), None)
        .map_err(|error| if error.is::<WithHint>() { error } else { WithHint::new(message(&error), &hint).into() })?;
    if prepared.sha256 != config.text_sha256 {
        bail!(WithHint::new(
            format!("data.inputs: the text is not the one that {} was trained on (its SHA-256 differs)", run.display()),
            "restore the text, or start a new run with --init-from"
        ));
    }
    config.data.inputs = absolute_inputs(&config.data.inputs);
    Ok(prepared)
}

/// Opens the device that the run was started on, or the most similar one of this machine.
fn reopen_device(config: &mut RunConfig, args: &TrainArgs) -> Result<Device> {
    let recorded = config.device.instruction_set.clone();
    config.device.threads = args.device.threads.unwrap_or(config.device.threads);
    if !recorded.parse::<Isa>().is_ok_and(Isa::is_available) {
        config.device.instruction_set = "auto".to_owned();
    }
    let (dev, resolved) = device::open(&config.device, Workload::Training)?;
    let warn = |what: &str, then: &str, now: &str| {
        if then != now {
            note(&format!(
                "warning: the run was started with {what} {then}, now it is {now}: results may differ in the last bits"
            ));
        }
    };
    warn("the instruction set", &recorded, &resolved.instruction_set);
    warn("calame", &config.version, env!("CARGO_PKG_VERSION"));
    config.device = resolved;
    Ok(dev)
}
