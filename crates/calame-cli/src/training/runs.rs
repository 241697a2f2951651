//! The folder `runs/` and the runs in it: paths of new runs, runs by their name, the newest model, commands to print.

use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use anyhow::Result;
use calame::files::LockError;
use calame::run::metrics::{self, Record};
use calame::run::{RunFolder, RunFolderError, RunLock};
use calame::train::latest_checkpoint;
use clap::builder::{PathBufValueParser, TypedValueParser};
use time::OffsetDateTime;

use crate::ui::invocation;
use crate::ui::output::{WithHint, quoted};

/// The folder for runs whose path is not given.
pub const RUNS: &str = "runs";

/// The default paths of a new run, in order: `runs/2026-11-23-book`, then with `-2` and so on.
fn default_paths(preset: &str) -> impl Iterator<Item = PathBuf> {
    // The local time zone cannot be read safely while other threads run; UTC's date is close enough for a name.
    let date = OffsetDateTime::now_local().unwrap_or_else(|_| OffsetDateTime::now_utc()).date();
    let name = format!("{:04}-{:02}-{:02}-{preset}", date.year(), u8::from(date.month()), date.day());
    let first = Path::new(RUNS).join(&name);
    std::iter::once(first).chain((2u32..).map(move |n| Path::new(RUNS).join(format!("{name}-{n}"))))
}

/// The first default path at which nothing exists.
pub fn new_path(preset: &str) -> PathBuf {
    default_paths(preset).find(|path| path.symlink_metadata().is_err()).expect("the paths do not end")
}

/// Locks the path of a new run, the one given or the first default path that is free, and checks that a run can be
/// created there. Where another program has just taken a default path, the next one is used.
///
/// # Errors
/// If another program uses the given path, or something is there that is not replaced.
pub fn reserve(given: Option<&Path>, preset: &str, overwrite: bool) -> Result<(PathBuf, RunLock)> {
    if let Some(path) = given {
        let lock = RunLock::acquire(path)?;
        check_free(path, overwrite)?;
        return Ok((path.to_owned(), lock));
    }
    for path in default_paths(preset).filter(|path| path.symlink_metadata().is_err()) {
        match RunLock::acquire(&path) {
            // It may have been created between the look and the lock.
            Ok(lock) if path.symlink_metadata().is_err() => return Ok((path, lock)),
            Ok(_) | Err(RunFolderError::Lock(LockError::Held { .. })) => {}
            Err(error) => return Err(error.into()),
        }
    }
    unreachable!("the default paths do not end")
}

/// Checks that a new run can be created at `path`: it does not exist, is an empty folder, or is a run that `overwrite`
/// lets us replace.
///
/// # Errors
/// If something else is there.
pub fn check_free(path: &Path, overwrite: bool) -> Result<()> {
    let path_shown = path.display();
    let error = match RunFolder::check_free(path, overwrite) {
        Ok(_) => return Ok(()),
        Err(RunFolderError::NotARun { reason, .. }) => WithHint::new(
            format!("{path_shown} exists already and is not a run ({reason}), so it is not replaced"),
            "choose another --run",
        ),
        Err(RunFolderError::Exists { .. })
            if latest_checkpoint(&path.join("checkpoints")).is_ok_and(|found| found.is_some()) =>
        {
            let (resume, finished) = (resume_command(path), path.join("model").exists());
            let how = if finished { " --epochs N` trains it further" } else { "` resumes it" };
            let hint = format!("`{resume}{how}; or choose another --run, or replace it with --overwrite");
            WithHint::new(format!("{path_shown} exists already"), hint)
        }
        Err(RunFolderError::Exists { .. }) => {
            let hint = "choose another --run, or replace it with --overwrite";
            WithHint::new(format!("{path_shown} exists already"), hint)
        }
        Err(other) => return Err(other.into()),
    };
    Err(error.into())
}

/// The path of the model to use: the one given, or the newest finished run.
///
/// # Errors
/// If none is given and no run is finished.
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
            "`calame train --preset tiny` trains one in a minute or two, `calame train` the report's in five to fifteen; or give --model RUN_OR_FOLDER",
        )
        .into()
    })
}

/// Parses the argument for a run: its folder, or its name under `runs/`.
pub fn run_parser() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(|named| find(&named))
}

/// The path of a run or model that the user named: the path itself, or the one under `runs/` if only that exists.
pub fn find(named: &Path) -> PathBuf {
    let is_name = !named.as_os_str().is_empty() && named.components().all(|part| matches!(part, Component::Normal(_)));
    let under = Path::new(RUNS).join(named);
    if is_name && named.symlink_metadata().is_err() && under.exists() { under } else { named.to_owned() }
}

/// A remark after a run's name if its result is not the last model but the best one; otherwise empty.
pub fn which_model(path: &Path) -> String {
    let records = metrics::read(&path.join("metrics.jsonl")).unwrap_or_default();
    match records.last() {
        Some(Record::End { best_step: Some(step), best_val_loss: Some(loss), .. }) => {
            format!(" (the best by validation: {loss:.3} after step {step})")
        }
        _ => String::new(),
    }
}

/// A model's path as a run's settings store it: absolute, if it is a path and not a name on the hub.
pub fn absolute_model(path: &str) -> String {
    let found = find(Path::new(path));
    let path = found.to_str().unwrap_or(path);
    if path.is_empty() || !Path::new(path).exists() {
        return path.to_owned();
    }
    let absolute = std::path::absolute(path).ok().and_then(|path| path.into_os_string().into_string().ok());
    absolute.unwrap_or_else(|| path.to_owned())
}

/// The command that resumes a stopped run.
pub fn resume_command(run: &Path) -> String {
    invocation::command(&format!("train --resume {}", quoted(&run.display().to_string())))
}
