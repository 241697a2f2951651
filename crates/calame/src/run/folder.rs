//! The folder of a run: its settings, metrics, generated texts and model.
//!
//! ```text
//! config.toml         every value of the run, resolved
//! tokenizer.json      the run's tokenizer, for a resume
//! metrics.jsonl       one line for each step, evaluation and sample
//! samples.txt         the texts written after each epoch
//! loss-plot.{pdf,svg,png}
//! tensorboard/        event files, one for each start of the program
//! checkpoints/        the newest training states; of a finished training the last one
//! model/              the result, in Hugging Face's layout
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::metrics::Record;
use super::own::{self, CONFIG, SAMPLES, foreign_file};
use crate::files::{
    FileError, LockError, PathLock, create_folder_locked, is_folder_locked, is_lock_name, lock_folder, open_log,
    read_text_at_most, remove_folder_if_exists, replace_bytes, replace_folder_locked, write_new_file,
};
use crate::train::RunConfig;

/// Maximum size of a text file in bytes; the tokenizer of a vocabulary of a million tokens has about 100 MB.
const MAX_TEXT_BYTES: u64 = 256 << 20;

/// Why a run folder cannot be created, opened or written.
#[derive(Debug, thiserror::Error)]
pub enum RunFolderError {
    /// The system refused a file operation.
    #[error(transparent)]
    File(#[from] FileError),
    /// The path already exists.
    #[error("{} exists already: choose another --run, add --overwrite to replace it, or `--resume {}` to resume it", .path.display(), .path.display())]
    Exists {
        /// Path of the existing file or folder.
        path: PathBuf,
    },
    /// What the path holds is not a run, so it is not replaced.
    #[error("{} exists already and is not a run ({reason}), so it is not replaced; choose another --run", .path.display())]
    NotARun {
        /// Path of the existing file or folder.
        path: PathBuf,
        /// What is missing in it, or does not belong to a run.
        reason: String,
    },
    /// Another program is using the run.
    #[error(transparent)]
    Lock(LockError),
    /// There is nothing at this path.
    #[error("{}: no such file or folder", .path.display())]
    Missing {
        /// The path that was given.
        path: PathBuf,
    },
    /// There is no run at this path.
    #[error("{} holds no run: expected config.toml in it", .path.display())]
    NoRun {
        /// Path of the folder.
        path: PathBuf,
    },
    /// Settings of a run that cannot be parsed.
    #[error("{}: {source}", .path.display())]
    Toml {
        /// Path of the settings file.
        path: PathBuf,
        /// The parser's error, with line and column.
        source: Box<toml::de::Error>,
    },
    /// Settings of a run that cannot be serialized.
    #[error("{}: {source}", .path.display())]
    Serialize {
        /// Path of the settings file.
        path: PathBuf,
        /// The error of the serializer.
        source: toml::ser::Error,
    },
}

impl From<LockError> for RunFolderError {
    fn from(error: LockError) -> RunFolderError {
        match error {
            LockError::File(error) => RunFolderError::File(error),
            held => RunFolderError::Lock(held),
        }
    }
}

/// The folder of a run, which exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

/// Prevents other programs from creating, replacing or resuming a run as long as it exists; the system releases it when the
/// program ends.
#[derive(Debug)]
pub struct RunLock {
    /// The path, which need not exist yet.
    _path: PathLock,
    /// The folder itself: others recognise a run in use by it, also after the folder was moved. `None` if there is none,
    /// or the system cannot lock folders.
    folder: Option<File>,
}

impl RunLock {
    /// Locks the path of a run, which need not exist yet.
    ///
    /// # Errors
    /// If another program holds the lock; the error says which.
    pub fn acquire(path: &Path) -> Result<RunLock, RunFolderError> {
        let lock = PathLock::acquire(path)?;
        Ok(RunLock { _path: lock, folder: if path.is_dir() { lock_folder(path)? } else { None } })
    }
}

/// The contents of `config.toml`; `path` names the file in errors.
fn config_text(config: &RunConfig, path: &Path) -> Result<String, RunFolderError> {
    toml::to_string_pretty(config).map_err(|source| RunFolderError::Serialize { path: path.to_owned(), source })
}

/// An entry of `samples.txt`.
fn sample(epoch: u64, text: &str) -> String {
    format!("── epoch {epoch}\n{text}\n\n")
}

impl RunFolder {
    /// File name of the tokenizer, next to the settings.
    pub const TOKENIZER: &str = own::TOKENIZER;

    /// Creates the folder of a new run.
    ///
    /// An empty folder may already exist. Another run is replaced only if `overwrite` is set, after the new folder is
    /// complete.
    ///
    /// # Errors
    /// If the path already exists, another program uses it, or the system refuses.
    pub fn create(
        path: &Path,
        config: &RunConfig,
        tokenizer_json: &str,
        overwrite: bool,
    ) -> Result<RunFolder, RunFolderError> {
        let lock = RunLock::acquire(path)?;
        RunFolder::create_locked(path, lock, config, tokenizer_json, overwrite).map(|(folder, _)| folder)
    }

    /// As [`create`](RunFolder::create), for a path that is locked already. The lock is returned, and covers the new
    /// folder from before it gets its name.
    ///
    /// # Errors
    /// As [`create`](RunFolder::create).
    pub fn create_locked(
        path: &Path,
        mut lock: RunLock,
        config: &RunConfig,
        tokenizer_json: &str,
        overwrite: bool,
    ) -> Result<(RunFolder, RunLock), RunFolderError> {
        let is_replaced = RunFolder::check_free(path, overwrite)?;
        let text = config_text(config, &path.join(CONFIG))?;
        let fill = |folder: &Path| {
            write_new_file(&folder.join(CONFIG), text.as_bytes())?;
            write_new_file(&folder.join(RunFolder::TOKENIZER), tokenizer_json.as_bytes())
        };
        // The old folder stays locked until the new one is in its place.
        lock.folder = if is_replaced { replace_folder_locked(path, fill)? } else { create_folder_locked(path, fill)? };
        Ok((RunFolder { path: path.to_owned() }, lock))
    }

    /// Whether a new run at `path` replaces another one.
    ///
    /// # Errors
    /// If something exists there that a new run must not replace: a run, unless `overwrite` is set, or anything else but
    /// an empty folder.
    pub fn check_free(path: &Path, overwrite: bool) -> Result<bool, RunFolderError> {
        let is_empty = |mut entries: fs::ReadDir| {
            entries.all(|entry| entry.is_ok_and(|entry| entry.file_name().to_str().is_some_and(is_lock_name)))
        };
        // A dangling link counts as something that exists.
        if path.symlink_metadata().is_err() || fs::read_dir(path).is_ok_and(is_empty) {
            return Ok(false);
        }
        let not_a_run = |reason: String| Err(RunFolderError::NotARun { path: path.to_owned(), reason });
        if !path.join(CONFIG).is_file() {
            return not_a_run("it has no config.toml".to_owned());
        }
        if !overwrite {
            return Err(RunFolderError::Exists { path: path.to_owned() });
        }
        match foreign_file(path) {
            Some(reason) => not_a_run(reason),
            None => Ok(true),
        }
    }

    /// Opens the folder of a run and reads its settings.
    ///
    /// # Errors
    /// If there is no run, or its settings cannot be parsed.
    pub fn open(path: &Path) -> Result<(RunFolder, RunConfig), RunFolderError> {
        let folder = RunFolder { path: path.to_owned() };
        let file = path.join(CONFIG);
        let text = read_text_at_most(&file, MAX_TEXT_BYTES).map_err(|error| match error.source.kind() {
            io::ErrorKind::NotFound if !path.exists() => RunFolderError::Missing { path: path.to_owned() },
            io::ErrorKind::NotFound => RunFolderError::NoRun { path: path.to_owned() },

            _ => error.into(),
        })?;
        let config =
            toml::from_str(&text).map_err(|source| RunFolderError::Toml { path: file, source: Box::new(source) })?;
        Ok((folder, config))
    }

    /// Locks the run for this program.
    ///
    /// # Errors
    /// If another program has locked it; the error says which.
    pub fn lock(&self) -> Result<RunLock, RunFolderError> {
        RunLock::acquire(&self.path)
    }

    /// Whether a program holds the [`lock`](RunFolder::lock); false if the system does not support such locks.
    pub fn is_in_use(&self) -> bool {
        is_folder_locked(&self.path)
    }

    /// Path of the folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Path of the metrics, `metrics.jsonl`.
    pub fn metrics(&self) -> PathBuf {
        self.path.join(own::METRICS)
    }

    /// Path of the checkpoints, `checkpoints/`.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join(own::CHECKPOINTS)
    }

    /// Path of TensorBoard's event files, `tensorboard/`.
    pub fn tensorboard(&self) -> PathBuf {
        self.path.join(own::TENSORBOARD)
    }

    /// Path of the resulting model, `model/`.
    pub fn model(&self) -> PathBuf {
        self.path.join(own::MODEL)
    }

    /// The contents of `tokenizer.json`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn tokenizer_json(&self) -> Result<String, RunFolderError> {
        Ok(read_text_at_most(&self.path.join(RunFolder::TOKENIZER), MAX_TEXT_BYTES)?)
    }

    /// Replaces the settings of the run.
    ///
    /// # Errors
    /// If the system refuses; the existing file is intact in that case.
    pub fn write_config(&self, config: &RunConfig) -> Result<(), RunFolderError> {
        let path = self.path.join(CONFIG);
        Ok(replace_bytes(&path, config_text(config, &path)?.as_bytes())?)
    }

    /// Whether the run has written a sample.
    pub fn has_samples(&self) -> bool {
        self.path().join(SAMPLES).exists()
    }

    /// Appends the sample of an epoch to `samples.txt`.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn add_sample(&self, epoch: u64, text: &str) -> Result<(), RunFolderError> {
        let path = self.path.join(SAMPLES);
        let mut file = open_log(&path)?;
        let file_bytes = file.metadata().map_err(FileError::new("read", &path))?.len();
        let written = file.write_all(sample(epoch, text).as_bytes());
        if written.is_err() {
            // Half a sample would remain in front of the next attempt. If this fails too, the first error is reported.
            let _ = file.set_len(file_bytes);
        }
        Ok(written.map_err(FileError::new("write", &path))?)
    }

    /// Rewrites `samples.txt` from a run's records, since a killed program may have left a sample that will be
    /// repeated.
    ///
    /// # Errors
    /// If the system refuses; the existing file is intact in that case.
    pub fn rewrite_samples(&self, records: &[Record]) -> Result<(), RunFolderError> {
        let samples = records.iter().filter_map(|record| match record {
            Record::Sample { epoch, text, .. } => Some(sample(*epoch, text)),
            _ => None,
        });
        Ok(replace_bytes(&self.path.join(SAMPLES), samples.collect::<String>().as_bytes())?)
    }

    /// Removes the checkpoints of a completed run.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn remove_checkpoints(&self) -> Result<(), RunFolderError> {
        Ok(remove_folder_if_exists(&self.checkpoints())?)
    }
}
