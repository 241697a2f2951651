//! The folder of a run: what it was told, what it measured, what it wrote, the model.
//!
//! ```text
//! config.toml         every value of the run, resolved
//! tokenizer.json      the run's tokenizer, for a resume
//! metrics.jsonl       one line for each step, evaluation and sample
//! samples.txt         the texts written after each epoch
//! loss-plot.{pdf,svg,png}
//! tensorboard/        event files, one for each start of the program
//! checkpoints/        a training state, while the training is not finished
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
/// The tokenizer of a vocabulary of a million tokens has some 100 MB.
const MAX_TEXT_BYTES: u64 = 256 << 20;

/// Why a run's folder cannot be made, opened or written.
#[derive(Debug, thiserror::Error)]
pub enum RunFolderError {
    /// The system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is something at this path already.
    #[error("{} exists already: choose another --run, add --overwrite to replace it, or `--resume {}` to go on with it", .path.display(), .path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// What stands there is no run: it is not removed.
    #[error("{} is not a run's folder (it has no config.toml and is not empty): --overwrite only replaces runs", .path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
    },
    /// Another program trains in it.
    #[error("another program is training in {}: wait for it or stop it by Ctrl-C, then go on; or choose another --run", .path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// No run at this path.
    #[error("{} holds no run: expected config.toml in it", .path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
    },
    /// A run's file that cannot be understood.
    #[error("{}: {source}", .path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A run's file that cannot be written.
    #[error("{}: {source}", .path.display())]
    Serialize {
        /// The file.
        path: PathBuf,
        /// Why.
        source: toml::ser::Error,
    },
}

/// A run's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

/// Keeps other programs from training in a run for as long as it lives; the system lets go of it with the program.
#[derive(Debug)]
pub struct RunLock {
    /// None where the system has no such locks.
    _folder: Option<File>,
}

/// The text of `config.toml`; `path` names it in errors.
fn config_text(config: &RunConfig, path: &Path) -> Result<String, RunFolderError> {
    toml::to_string_pretty(config).map_err(|source| RunFolderError::Serialize { path: path.to_owned(), source })
}

/// One text of `samples.txt`.
fn sample(epoch: u64, text: &str) -> String {
    format!("── epoch {epoch}\n{text}\n\n")
}

impl RunFolder {
    /// The file of its tokenizer, beside its settings.
    pub const TOKENIZER: &str = "tokenizer.json";

    /// Makes the folder of a new run.
    ///
    /// An empty folder may exist already; another run's is replaced only if `overwrite`, once the new one is complete beside
    /// it.
    ///
    /// # Errors
    /// If there is something at the path, or the system refuses.
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
        // Until the new one is in its place.
        let _old = if occupied { Some(RunFolder { path: path.to_owned() }.lock()?) } else { None };
        let text = config_text(config, &path.join(CONFIG))?;
        replace_folder(path, |folder| {
            write_new_file(&folder.join(CONFIG), text.as_bytes())?;
            write_new_file(&folder.join(RunFolder::TOKENIZER), tokenizer_json.as_bytes())
        })?;
        Ok(RunFolder { path: path.to_owned() })
    }

    /// Opens the folder of a run and reads its file.
    ///
    /// # Errors
    /// If there is none, or its file cannot be understood.
    pub fn open(path: &Path) -> Result<(RunFolder, RunConfig), RunFolderError> {
        let folder = RunFolder { path: path.to_owned() };
        let file = path.join(CONFIG);
        let text = read_text_at_most(&file, MAX_TEXT_BYTES).map_err(|error| match error.source.kind() {
            io::ErrorKind::NotFound => RunFolderError::NoRun { path: path.to_owned() },
            _ => error.into(),
        })?;
        let config =
            toml::from_str(&text).map_err(|source| RunFolderError::Toml { path: file, source: Box::new(source) })?;
        Ok((folder, config))
    }

    /// Takes the run for this program.
    ///
    /// # Errors
    /// If another program has it.
    pub fn lock(&self) -> Result<RunLock, RunFolderError> {
        // The folder itself, so that no file is left; not every system can open or lock one.
        let Ok(folder) = File::open(&self.path) else { return Ok(RunLock { _folder: None }) };
        // A look by `is_in_use` takes microseconds; another training does not end in the meantime.
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

    /// Whether a program has taken the run by [`lock`](RunFolder::lock); false where the system has no such locks.
    pub fn is_in_use(&self) -> bool {
        File::open(&self.path).is_ok_and(|folder| matches!(folder.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `metrics.jsonl`.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// `checkpoints/`.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// `tensorboard/`.
    pub fn tensorboard(&self) -> PathBuf {
        self.path.join("tensorboard")
    }

    /// `model/`.
    pub fn model(&self) -> PathBuf {
        self.path.join("model")
    }

    /// The text of `tokenizer.json`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn tokenizer_json(&self) -> Result<String, RunFolderError> {
        Ok(read_text_at_most(&self.path.join(RunFolder::TOKENIZER), MAX_TEXT_BYTES)?)
    }

    /// Replaces the run's file.
    ///
    /// # Errors
    /// If the system refuses; the file that existed before is intact then.
    pub fn write_config(&self, config: &RunConfig) -> Result<(), RunFolderError> {
        let path = self.path.join(CONFIG);
        Ok(replace_bytes(&path, config_text(config, &path)?.as_bytes())?)
    }

    /// Adds the text of an epoch to `samples.txt`.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn add_sample(&self, epoch: u64, text: &str) -> Result<(), RunFolderError> {
        let path = self.path.join(SAMPLES);
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let mut file = file.map_err(FileError::new("open", &path))?;
        Ok(file.write_all(sample(epoch, text).as_bytes()).map_err(FileError::new("write", &path))?)
    }

    /// Writes `samples.txt` anew from a run's records: a killed program may have left a text that is written again.
    ///
    /// # Errors
    /// If the system refuses; the file that existed before is intact then.
    pub fn rewrite_samples(&self, records: &[Record]) -> Result<(), RunFolderError> {
        let samples = records.iter().filter_map(|record| match record {
            Record::Sample { epoch, text, .. } => Some(sample(*epoch, text)),
            _ => None,
        });
        Ok(replace_bytes(&self.path.join(SAMPLES), samples.collect::<String>().as_bytes())?)
    }

    /// Removes the checkpoints of a finished run.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn remove_checkpoints(&self) -> Result<(), RunFolderError> {
        Ok(remove_folder_if_exists(&self.checkpoints())?)
    }
}
