//! Where runs are: `runs/<date>-<preset>`, the newest model among them, and what one does with a run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Result;
use calame::checkpoint::{SavedModel, latest_checkpoint, load_model};
use calame::tokenizer::Tokenizer;
use calame::train::metrics::{self, Record};
use calame::train::{RunFolder, RunFolderError};
use time::OffsetDateTime;

use crate::net::hub;
use crate::ui::output::{WithHint, note, quoted};

pub const RUNS: &str = "runs";

/// A new run's folder: `runs/2026-11-23-book`, with `-2` and so on where that is taken.
pub fn new_path(preset: &str) -> PathBuf {
    // The local date cannot be told while other threads run; UTC's is close enough for a name.
    let date = OffsetDateTime::now_local().unwrap_or_else(|_| OffsetDateTime::now_utc()).date();
    let name = format!("{:04}-{:02}-{:02}-{preset}", date.year(), u8::from(date.month()), date.day());
    let first = Path::new(RUNS).join(&name);
    if !first.exists() {
        return first;
    }
    (2u32..).map(|n| Path::new(RUNS).join(format!("{name}-{n}"))).find(|path| !path.exists()).unwrap_or(first)
}

/// Whether a new run may stand at `path`: nothing is there, an empty folder, or a run that is to be replaced.
pub fn check_free(path: &Path, overwrite: bool) -> Result<()> {
    let empty = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    // A link that leads nowhere is something too.
    if empty || path.symlink_metadata().is_err() {
        return Ok(());
    }
    let path_shown = path.display();
    let (message, hint) = if !path.join("config.toml").is_file() {
        let message = format!("{path_shown} exists already and is no run (it has no config.toml): it is not replaced");
        (message, "choose another --run".to_owned())
    } else if overwrite {
        if let Ok((run, _)) = RunFolder::open(path)
            && run.is_in_use()
        {
            return Err(RunFolderError::InUse { path: path.to_owned() }.into());
        }
        return Ok(());
    } else if latest_checkpoint(&path.join("checkpoints")).is_ok_and(|found| found.is_some()) {
        let resume = resume_command(path);
        let hint = format!("`{resume}` goes on with it; or choose another --run, or replace it with --overwrite");
        (format!("{path_shown} exists already"), hint)
    } else {
        let hint = "choose another --run, or replace it with --overwrite";
        (format!("{path_shown} exists already"), hint.to_owned())
    };
    Err(WithHint::new(message, hint).into())
}

/// The model to use: the one given, or the newest run's.
pub fn model_or_newest(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    let mut newest: Option<(SystemTime, PathBuf)> = None;
    for entry in std::fs::read_dir(RUNS).into_iter().flatten().flatten() {
        let config = entry.path().join("model").join("config.json");
        if let Ok(modified) = config.metadata().and_then(|m| m.modified())
            && newest.as_ref().is_none_or(|(time, _)| modified > *time)
        {
            newest = Some((modified, entry.path()));
        }
    }
    newest.map(|(_, path)| path).ok_or_else(|| {
        WithHint::new(
            "no --model was given, and there is no finished run under runs/",
            "`calame train --preset tiny` makes one in a minute or two, `calame train` the report's in five to fifteen; or give --model RUN_OR_FOLDER",
        )
        .into()
    })
}

/// Reads a model, given by its path or its name on the hub, and tells what of it had to be assumed.
pub fn load(path: &Path) -> Result<SavedModel> {
    let saved = load_model(&hub::resolve(path)?)?;
    for found in &saved.notes {
        note(&format!("note   {}: {found}", saved.path.display()));
    }
    Ok(saved)
}

/// Reads a model that is of no use without its tokenizer: `input` (a text, a prompt) is to be encoded.
pub fn load_with_tokenizer(path: &Path, input: &str) -> Result<(SavedModel, Arc<dyn Tokenizer>)> {
    let mut saved = load(path)?;
    let tokenizer = saved.tokenizer.take().ok_or_else(|| {
        WithHint::new(
            format!("{} has no tokenizer.json, so a {input} cannot be encoded", saved.path.display()),
            "put the model's tokenizer.json into the folder",
        )
    })?;
    Ok((saved, tokenizer))
}

/// Which of a run's models its result is, to be said after its name: nothing where it is the last one.
pub fn which_model(path: &Path) -> String {
    let records = metrics::read(&path.join("metrics.jsonl")).unwrap_or_default();
    match records.last() {
        Some(Record::End { best_step: Some(step), best_val_loss: Some(loss), .. }) => {
            format!(" (the best by validation: {loss:.3} after step {step})")
        }
        _ => String::new(),
    }
}

/// The command that goes on with a stopped run.
pub fn resume_command(run: &Path) -> String {
    format!("calame train --resume {}", quoted(&run.display().to_string()))
}
