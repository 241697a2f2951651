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

use super::RunConfig;
use super::metrics::Record;
use crate::checkpoint::{CheckpointError, put_in_place};

/// Why a run's folder cannot be made, opened or written.
#[derive(Debug, thiserror::Error)]
pub enum RunFolderError {
    /// The system refused.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
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
    /// The new folder cannot take its place; what stood there stands.
    #[error(transparent)]
    Place(#[from] CheckpointError),
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

fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RunFolderError {
    let path = path.to_owned();
    move |source| RunFolderError::Io { action, path, source }
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
    /// An empty folder may be there already; another run's is replaced only if `overwrite`, and no sooner than the new one
    /// could be made beside it.
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
        if occupied && !path.join("config.toml").is_file() {
            return Err(RunFolderError::NotARun { path: path.to_owned() });
        }
        // Until the new one is in its place.
        let _old = if occupied { Some(RunFolder { path: path.to_owned() }.lock()?) } else { None };
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(".new");
        let fresh = path.with_file_name(name);
        if fresh.exists() {
            fs::remove_dir_all(&fresh).map_err(io("remove", &fresh))?;
        }
        fs::create_dir_all(&fresh).map_err(io("create", &fresh))?;
        let folder = RunFolder { path: fresh.clone() };
        let made = folder
            .write_config(config)
            .and_then(|()| folder.write(RunFolder::TOKENIZER, tokenizer_json))
            .and_then(|()| Ok(put_in_place(&fresh, path)?));
        if made.is_err() {
            // The first error is the one to tell.
            let _ = fs::remove_dir_all(&fresh);
        }
        made?;
        Ok(RunFolder { path: path.to_owned() })
    }

    /// Opens the folder of a run and reads its file.
    ///
    /// # Errors
    /// If there is none, or its file cannot be understood.
    pub fn open(path: &Path) -> Result<(RunFolder, RunConfig), RunFolderError> {
        let folder = RunFolder { path: path.to_owned() };
        let file = path.join("config.toml");
        let text = match fs::read_to_string(&file) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(RunFolderError::NoRun { path: path.to_owned() });
            }
            other => other.map_err(io("read", &file))?,
        };
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
        let path = self.path.join(RunFolder::TOKENIZER);
        fs::read_to_string(&path).map_err(io("read", &path))
    }

    /// Writes the run's file anew.
    ///
    /// # Errors
    /// If the system refuses; the file that stood before stands then.
    pub fn write_config(&self, config: &RunConfig) -> Result<(), RunFolderError> {
        let path = self.path.join("config.toml");
        let text = toml::to_string_pretty(config)
            .map_err(|source| RunFolderError::Serialize { path: path.clone(), source })?;
        self.write("config.toml", &text)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), RunFolderError> {
        let (path, partial) = (self.path.join(name), self.path.join(format!(".{name}.partial")));
        let mut file = File::create(&partial).map_err(io("create", &partial))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io("write", &partial))?;
        fs::rename(&partial, &path).map_err(io("rename", &partial))
    }

    /// Adds the text of an epoch to `samples.txt`.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn add_sample(&self, epoch: u64, text: &str) -> Result<(), RunFolderError> {
        let path = self.path.join("samples.txt");
        let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(io("open", &path))?;
        file.write_all(sample(epoch, text).as_bytes()).map_err(io("write", &path))
    }

    /// Writes `samples.txt` anew from a run's records: a killed program may have left a text that is written again.
    ///
    /// # Errors
    /// If the system refuses; the file that stood before stands then.
    pub fn rewrite_samples(&self, records: &[Record]) -> Result<(), RunFolderError> {
        let samples = records.iter().filter_map(|record| match record {
            Record::Sample { epoch, text, .. } => Some(sample(*epoch, text)),
            _ => None,
        });
        self.write("samples.txt", &samples.collect::<String>())
    }

    /// Removes the checkpoints of a finished run.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn remove_checkpoints(&self) -> Result<(), RunFolderError> {
        let path = self.checkpoints();
        match fs::remove_dir_all(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io("remove", &path)(e)),
            _ => Ok(()),
        }
    }
}
