//! Writes a run's metrics, including after a kill.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::error::MetricsError;
use super::read::for_each_line;
use super::record::Record;
use crate::files::{FileError, create_log, open_log, replace_bytes};
use crate::train::Progress;

/// Appends records to a run's `metrics.jsonl`.
///
/// Each record has been passed to the system when [`write`](Self::write) returns; nothing is buffered.
#[derive(Debug)]
pub struct MetricsWriter {
    path: PathBuf,
    file: File,
    line: Vec<u8>,
    file_bytes: u64,
}

impl MetricsWriter {
    /// Starts the metrics of a new run.
    ///
    /// # Errors
    ///
    /// If the file already exists or cannot be created.
    pub fn create(path: &Path) -> Result<Self, MetricsError> {
        match create_log(path) {
            Ok(file) => Ok(Self::over(path, file, 0)),
            Err(error) if error.source.kind() == ErrorKind::AlreadyExists => {
                Err(MetricsError::Exists { path: path.to_path_buf() })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Continues the metrics of a run that resumes from `progress`.
    ///
    /// Records of later steps and a truncated last line, left by a run that was killed after its last checkpoint, are
    /// dropped, since those steps are repeated. So are the evaluation and sample of the last step if they were not
    /// complete when the checkpoint was written, and the records of an end that is no longer the end. The remaining
    /// lines are unchanged. The file is replaced by a rename, so that a kill leaves either the old or the new file. If
    /// there is no file, a new one is started.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, replaced or opened, or contains a line that is not a record; it is unchanged in that
    /// case.
    pub fn open_at_step(path: &Path, progress: &Progress) -> Result<Self, MetricsError> {
        let old_bytes = match path.metadata() {
            Ok(metadata) => metadata.len(),
            Err(source) if source.kind() == ErrorKind::NotFound => return Self::create(path),
            Err(source) => return Err(FileError::new("read", path)(source).into()),
        };
        let mut kept = Vec::new();
        for_each_line(path, |record, line| {
            // What follows the last step is repeated if it was not complete.
            let again = !progress.settled && record.step().checked_add(1) == Some(progress.n_steps);
            let is_end = matches!(record, Record::End { .. } | Record::Memorisation { .. });
            if record.step() < progress.n_steps && !is_end && (!again || matches!(record, Record::Step { .. })) {
                kept.extend_from_slice(line);
                kept.push(b'\n');
            }
        })?;
        let file_bytes = kept.len() as u64;
        // Lines are only removed, or given a missing line break, so the same length means the same file.
        if file_bytes != old_bytes {
            replace_bytes(path, &kept)?;
        }
        Ok(Self::over(path, open_log(path)?, file_bytes))
    }

    fn over(path: &Path, file: File, file_bytes: u64) -> Self {
        Self { path: path.to_path_buf(), file, line: Vec::new(), file_bytes }
    }

    /// Appends a record as one line.
    ///
    /// # Errors
    ///
    /// If the line could not be written completely; the file is then truncated to the records before it.
    pub fn write(&mut self, record: &Record) -> Result<(), MetricsError> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, record)
            .map_err(|source| FileError::new("write a record to", &self.path)(source.into()))?;
        self.line.push(b'\n');
        if let Err(source) = self.file.write_all(&self.line) {
            // Half a line, left by a full disk, would join the next one and spoil the file. If truncating fails too,
            // the first error is the one to report.
            let _ = self.file.set_len(self.file_bytes);
            return Err(FileError::new("write a record to", &self.path)(source).into());
        }
        self.file_bytes += self.line.len() as u64;
        Ok(())
    }

    /// Waits until everything has reached the disk; called together with a checkpoint.
    ///
    /// # Errors
    ///
    /// If the system cannot write the data.
    pub fn sync(&self) -> Result<(), MetricsError> {
        Ok(self.file.sync_data().map_err(FileError::new("sync", &self.path))?)
    }
}
