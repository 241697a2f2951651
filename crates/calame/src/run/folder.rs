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

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::metrics::Record;
use crate::files::{
    FileError, read_text_at_most, remove_folder_if_exists, replace_bytes, replace_folder, write_new_file,
};
use crate::train::RunConfig;

const CONFIG: &str = "config.toml";
const SAMPLES: &str = "samples.txt";
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
    /// The path is not a run, so it is not replaced.
    #[error("{} is not a run's folder (it has no config.toml and is not empty): --overwrite only replaces runs", .path.display())]
    NotARun {
        /// Path of the existing folder.
        path: PathBuf,
    },
    /// Another program is training in the folder.
    #[error("another program is training in {}: wait for it or stop it with Ctrl-C, then resume; or choose another --run", .path.display())]
    InUse {
        /// Path of the run folder.
        path: PathBuf,
    },
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

/// The folder of a run, which exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

/// Prevents other programs from training in a run as long as it exists; the system releases it when the program ends.
#[derive(Debug)]
pub struct RunLock {
    /// `None` if the system does not support such locks.
    _folder: Option<File>,
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
    pub const TOKENIZER: &str = "tokenizer.json";

    /// Creates the folder of a new run.
    ///
    /// An empty folder may already exist. Another run is replaced only if `overwrite` is set, after the new folder is
    /// complete.
    ///
    /// # Errors
    /// If the path already exists, or the system refuses.
    pub fn create(
        path: &Path,
        config: &RunConfig,
        tokenizer_json: &str,
        overwrite: bool,
    ) -> Result<RunFolder, RunFolderError> {
        let occupied = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) || path.is_file();
        if occupied && !overwrite {
            return Err(RunFolderError::Exists { path: path.to_owned() });
        }
        if occupied && !path.join(CONFIG).is_file() {
            return Err(RunFolderError::NotARun { path: path.to_owned() });
        }
        // Held until the new folder is in place.
        let _old = if occupied { Some(RunFolder { path: path.to_owned() }.lock()?) } else { None };
        let text = config_text(config, &path.join(CONFIG))?;
        replace_folder(path, |folder| {
            write_new_file(&folder.join(CONFIG), text.as_bytes())?;
            write_new_file(&folder.join(RunFolder::TOKENIZER), tokenizer_json.as_bytes())
        })?;
        Ok(RunFolder { path: path.to_owned() })
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
    /// If another program has locked it.
    pub fn lock(&self) -> Result<RunLock, RunFolderError> {
        // Locks the folder itself, so that no lock file is left; not every system can open or lock a folder.
        let Ok(folder) = File::open(&self.path) else { return Ok(RunLock { _folder: None }) };
        // `is_in_use` holds the lock for microseconds; another training holds it until its end.
        let locked = folder.try_lock().or_else(|_| {
            thread::sleep(Duration::from_millis(20));
            folder.try_lock()
        });
        match locked {
            Ok(()) => Ok(RunLock { _folder: Some(folder) }),
            Err(TryLockError::WouldBlock) => Err(RunFolderError::InUse { path: self.path.clone() }),
            Err(TryLockError::Error(_)) => Ok(RunLock { _folder: None }),
        }
    }

    /// Whether a program holds the [`lock`](RunFolder::lock); false if the system does not support such locks.
    pub fn is_in_use(&self) -> bool {
        File::open(&self.path).is_ok_and(|folder| matches!(folder.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Path of the folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Path of the metrics, `metrics.jsonl`.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// Path of the checkpoints, `checkpoints/`.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Path of TensorBoard's event files, `tensorboard/`.
    pub fn tensorboard(&self) -> PathBuf {
        self.path.join("tensorboard")
    }

    /// Path of the resulting model, `model/`.
    pub fn model(&self) -> PathBuf {
        self.path.join("model")
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

    /// Appends the sample of an epoch to `samples.txt`.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn add_sample(&self, epoch: u64, text: &str) -> Result<(), RunFolderError> {
        let path = self.path.join(SAMPLES);
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let mut file = file.map_err(FileError::new("open", &path))?;
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
