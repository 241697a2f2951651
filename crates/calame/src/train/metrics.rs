//! What a run measured: `metrics.jsonl`, one JSON object a line.
//!
//! The file is written while the run goes on and must survive being killed at any byte:
//! each record is one write of one line, so at worst the last line is torn, and readers drop it.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

use crate::checkpoint::Progress;
use crate::files::{FileError, replace_bytes};

/// The longest line that is read, in bytes; a sample of a hundred thousand tokens is far below it.
const MAX_LINE_BYTES: u64 = 4 << 20;

/// One line of `metrics.jsonl`.
///
/// Steps count from 0 over the whole run, epochs from 1.
/// `n_tokens_seen` counts the input tokens of all training steps so far, the record's own step included.
/// A loss that is not finite is stored as `null` and read back as NaN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Record {
    /// One optimizer update.
    Step {
        /// The step, from 0.
        step: u64,
        /// The epoch, from 1.
        epoch: u64,
        /// Mean loss of the step's tokens, in nats.
        #[serde(deserialize_with = "null_as_nan")]
        loss: f32,
        /// Learning rate of this update.
        lr: f64,
        /// Norm of the whole gradient before clipping; absent where the optimizer took it layer by layer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grad_norm: Option<f32>,
        /// Input tokens trained on so far.
        n_tokens_seen: u64,
        /// Seconds that the step took.
        step_seconds: f64,
        /// Tokens of the step divided by its seconds.
        tokens_per_second: f64,
    },
    /// Losses over some batches of each split, dropout off.
    Evaluation {
        /// The step after which it was taken.
        step: u64,
        /// The epoch, from 1.
        epoch: u64,
        /// Loss over training batches, in nats a token.
        #[serde(deserialize_with = "null_as_nan")]
        train_loss: f32,
        /// Loss over validation batches, in nats a token.
        #[serde(deserialize_with = "null_as_nan")]
        val_loss: f32,
        /// Input tokens trained on so far.
        n_tokens_seen: u64,
        /// Seconds that the evaluation took.
        seconds: f64,
    },
    /// A text that the model wrote at the end of an epoch.
    Sample {
        /// The last step of the epoch.
        step: u64,
        /// The epoch, from 1.
        epoch: u64,
        /// What the model was given.
        prompt: String,
        /// The prompt and what the model added.
        text: String,
    },
    /// How much of the last sample stands word for word in the training text; see [`memorisation`](super::memorisation).
    Memorisation {
        /// The last step.
        step: u64,
        /// The last epoch.
        epoch: u64,
        /// Tokens that the model added to the prompt.
        n_tokens: usize,
        /// Those of them that lie in a copied run.
        n_copied: usize,
        /// Tokens of the longest copied passage, the prompt's included.
        longest: usize,
        /// That passage.
        passage: String,
    },
    /// The run has done all its epochs.
    End {
        /// The last step.
        step: u64,
        /// The last epoch.
        epoch: u64,
        /// Input tokens trained on in all.
        n_tokens_seen: u64,
        /// Seconds that the program ran which brought the run to its end: since its start, or its last resume.
        total_seconds: f64,
        /// The step whose evaluation was the best, where the run's model is the one that it was made of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        best_step: Option<u64>,
        /// Its validation loss, in nats a token.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        best_val_loss: Option<f32>,
    },
    /// A step that went bad.
    Trouble {
        /// The step, from 0.
        step: u64,
        /// The epoch, from 1.
        epoch: u64,
        /// What was wrong with it.
        what: String,
        /// What was done about it.
        remedy: String,
    },
}

impl Record {
    /// The step that the record belongs to, from 0.
    pub fn step(&self) -> u64 {
        match *self {
            Self::Step { step, .. }
            | Self::Evaluation { step, .. }
            | Self::Sample { step, .. }
            | Self::Trouble { step, .. }
            | Self::Memorisation { step, .. }
            | Self::End { step, .. } => step,
        }
    }

    /// The epoch that the record belongs to, from 1.
    pub fn epoch(&self) -> u64 {
        match *self {
            Self::Step { epoch, .. }
            | Self::Evaluation { epoch, .. }
            | Self::Sample { epoch, .. }
            | Self::Trouble { epoch, .. }
            | Self::Memorisation { epoch, .. }
            | Self::End { epoch, .. } => epoch,
        }
    }

    /// Input tokens trained on when the record was written; a sample and what is found in it do not say.
    pub fn n_tokens_seen(&self) -> Option<u64> {
        match *self {
            Self::Step { n_tokens_seen, .. }
            | Self::Evaluation { n_tokens_seen, .. }
            | Self::End { n_tokens_seen, .. } => Some(n_tokens_seen),
            Self::Sample { .. } | Self::Memorisation { .. } | Self::Trouble { .. } => None,
        }
    }
}

/// serde_json writes a float that is not finite as `null`; a loss that was there but not finite reads as NaN.
fn null_as_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
    Ok(Option::<f32>::deserialize(deserializer)?.unwrap_or(f32::NAN))
}

/// What can go wrong with `metrics.jsonl`.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The file could not be opened, read, written or renamed.
    #[error("{}: cannot {} it: {}", .0.path.display(), .0.action, .0.source)]
    File(#[from] FileError),
    /// A new run would write over another's metrics.
    #[error(
        "{}: expected no file for a new run, found one; resume that run or choose another folder",
        path.display()
    )]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A line that is not the torn last one is not a record.
    #[error(
        "{}:{line}: expected a record of metrics, found a line that is none ({source}); remove the line to read the rest",
        path.display()
    )]
    BadLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What the JSON reader said.
        source: serde_json::Error,
    },
    /// A line longer than any record.
    #[error(
        "{}:{line}: expected a line of at most {MAX_LINE_BYTES} bytes, found a longer one; this is not a metrics file",
        path.display()
    )]
    LongLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
    },
}

/// Reads all records of a metrics file, in the order they were written.
///
/// A last line without its line break that is not a record, as a killed run leaves it, is dropped.
///
/// # Errors
///
/// The file cannot be read, or any other line is not a record (with the file and the line's number).
pub fn read(path: &Path) -> Result<Vec<Record>, MetricsError> {
    let mut records = Vec::new();
    for_each_line(path, |record, _| records.push(record))?;
    Ok(records)
}

/// Calls `visit` with each record and the bytes of its line, without the line break.
fn for_each_line(path: &Path, mut visit: impl FnMut(Record, &[u8])) -> Result<(), MetricsError> {
    let file = File::open(path).map_err(FileError::new("open", path))?;
    let mut reader = BufReader::new(file);
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        let n_read = (&mut reader)
            .take(MAX_LINE_BYTES + 1)
            .read_until(b'\n', &mut bytes)
            .map_err(FileError::new("read", path))?;
        if n_read == 0 {
            break;
        }
        let ended = bytes.pop_if(|byte| *byte == b'\n').is_some();
        if bytes.len() as u64 > MAX_LINE_BYTES {
            let path = path.to_path_buf();
            return Err(MetricsError::LongLine { path, line });
        }
        match serde_json::from_slice(&bytes) {
            Ok(record) => visit(record, &bytes),
            // Only the last line can lack its line break: the run was killed while it wrote it.
            Err(_) if !ended => break,
            Err(source) => {
                let path = path.to_path_buf();
                return Err(MetricsError::BadLine { path, line, source });
            }
        }
    }
    Ok(())
}

/// Appends records to a run's `metrics.jsonl`.
///
/// Each record is on its way to the disk when [`write`](Self::write) returns; nothing is held back in memory.
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
    /// The file is there already, or cannot be made.
    pub fn create(path: &Path) -> Result<Self, MetricsError> {
        match OpenOptions::new().append(true).create_new(true).open(path) {
            Ok(file) => Ok(Self::over(path, file, 0)),
            Err(source) if source.kind() == ErrorKind::AlreadyExists => {
                Err(MetricsError::Exists { path: path.to_path_buf() })
            }
            Err(source) => Err(FileError::new("create", path)(source).into()),
        }
    }

    /// Goes on with the metrics of a run that continues from `progress`.
    ///
    /// Records of later steps, and a torn last line, were left by a run that was killed after its last
    /// checkpoint: they are dropped, since those steps are done again; so are the evaluation and the sample of
    /// the last step itself where they were not settled when the checkpoint was written.
    /// The lines before them are kept byte for byte; the file is replaced in one rename, so that a kill at any
    /// moment leaves the old file or the new one. Where there is no file yet, one is begun.
    ///
    /// # Errors
    ///
    /// The file cannot be read, replaced or opened, or it holds a line that is not a record; it is then unchanged.
    pub fn open_at_step(path: &Path, progress: &Progress) -> Result<Self, MetricsError> {
        let old_bytes = match path.metadata() {
            Ok(metadata) => metadata.len(),
            Err(source) if source.kind() == ErrorKind::NotFound => return Self::create(path),
            Err(source) => return Err(FileError::new("read", path)(source).into()),
        };
        let mut kept = Vec::new();
        for_each_line(path, |record, line| {
            // What follows the last step is done again where it was not settled.
            let again = !progress.settled && record.step().checked_add(1) == Some(progress.n_steps);
            if record.step() < progress.n_steps && (!again || matches!(record, Record::Step { .. })) {
                kept.extend_from_slice(line);
                kept.push(b'\n');
            }
        })?;
        let file_bytes = kept.len() as u64;
        // Lines are only ever dropped, or given the line break they lack: the same length is the same file.
        if file_bytes != old_bytes {
            replace_bytes(path, &kept)?;
        }
        let file = OpenOptions::new().append(true).open(path).map_err(FileError::new("open", path))?;
        Ok(Self::over(path, file, file_bytes))
    }

    fn over(path: &Path, file: File, file_bytes: u64) -> Self {
        Self { path: path.to_path_buf(), file, line: Vec::new(), file_bytes }
    }

    /// Appends one record as one line.
    ///
    /// # Errors
    ///
    /// The line could not be written whole; the file is then cut back to the records before it.
    pub fn write(&mut self, record: &Record) -> Result<(), MetricsError> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, record)
            .map_err(|source| FileError::new("write a record to", &self.path)(source.into()))?;
        self.line.push(b'\n');
        if let Err(source) = self.file.write_all(&self.line) {
            // Half a line left by a full disk would join the next one and spoil the file for readers.
            // Should the cut fail too, the first error is the one to tell.
            let _ = self.file.set_len(self.file_bytes);
            return Err(FileError::new("write a record to", &self.path)(source).into());
        }
        self.file_bytes += self.line.len() as u64;
        Ok(())
    }

    /// Waits until everything written has reached the disk; called where a checkpoint is.
    ///
    /// # Errors
    ///
    /// The system could not write it.
    pub fn sync(&self) -> Result<(), MetricsError> {
        Ok(self.file.sync_data().map_err(FileError::new("sync", &self.path))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::unfinished_path;

    fn at(n_steps: u64) -> Progress {
        Progress { n_steps, settled: true, ..Progress::default() }
    }

    #[test]
    fn what_was_not_settled_is_dropped_with_what_is_done_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("metrics.jsonl");
        let evaluation =
            Record::Evaluation { step: 1, epoch: 1, train_loss: 3.0, val_loss: 4.0, n_tokens_seen: 2048, seconds: 1.0 };
        let written = [step(0, 5.0), step(1, 4.0), evaluation, step(2, 3.0)];
        let kept = |progress: &Progress| {
            let _ = std::fs::remove_file(&path);
            let mut writer = MetricsWriter::create(&path).expect("begun");
            written.iter().for_each(|record| writer.write(record).expect("written"));
            MetricsWriter::open_at_step(&path, progress).expect("resumed");
            read(&path).expect("read back").len()
        };
        assert_eq!(kept(&at(2)), 3);
        assert_eq!(kept(&Progress { settled: false, ..at(2) }), 2);
        assert_eq!(kept(&at(3)), 4);
    }

    fn step(step: u64, loss: f32) -> Record {
        Record::Step {
            step,
            epoch: step / 8 + 1,
            loss,
            lr: 4e-4,
            grad_norm: None,
            n_tokens_seen: (step + 1) * 1024,
            step_seconds: 0.5,
            tokens_per_second: 2048.0,
        }
    }

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("metrics.jsonl");
        (folder, path)
    }

    fn write_steps(path: &Path, n_steps: u64) {
        let mut writer = MetricsWriter::create(path).expect("a new file");
        for i in 0..n_steps {
            writer.write(&step(i, 9.5)).expect("written");
        }
    }

    #[test]
    fn every_kind_of_record_survives() {
        let (_folder, path) = folder();
        let records = vec![
            step(0, 11.01189),
            Record::Evaluation {
                step: 0,
                epoch: 1,
                train_loss: 9.787,
                val_loss: 9.949,
                n_tokens_seen: 1024,
                seconds: 8.25,
            },
            Record::Sample {
                step: 7,
                epoch: 1,
                prompt: "Every effort moves you".into(),
                text: "Every effort moves you, the\n\"the\"".into(),
            },
            Record::Memorisation {
                step: 79,
                epoch: 10,
                n_tokens: 50,
                n_copied: 30,
                longest: 21,
                passage: "one of the axioms".into(),
            },
            Record::End {
                step: 79,
                epoch: 10,
                n_tokens_seen: 81920,
                total_seconds: 600.5,
                best_step: None,
                best_val_loss: None,
            },
        ];
        let mut writer = MetricsWriter::create(&path).expect("a new file");
        for record in &records {
            writer.write(record).expect("written");
        }
        writer.sync().expect("synced");
        assert_eq!(read(&path).expect("read back"), records);
        let text = std::fs::read_to_string(&path).expect("text");
        assert!(text.starts_with(r#"{"event":"step","step":0,"epoch":1,"loss":11.01189,"lr":0.0004,"#));
        assert_eq!(text.lines().count(), 5);
    }

    #[test]
    fn losses_that_are_not_finite_survive_as_nan() {
        let (_folder, path) = folder();
        let mut writer = MetricsWriter::create(&path).expect("a new file");
        for loss in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            writer.write(&step(0, loss)).expect("written");
        }
        for record in read(&path).expect("read back") {
            assert!(matches!(record, Record::Step { loss, .. } if loss.is_nan()));
        }
    }

    #[test]
    fn a_missing_loss_is_an_error_not_a_nan() {
        let (_folder, path) = folder();
        let line = r#"{"event":"step","step":0,"epoch":1,"lr":0.1,"n_tokens_seen":1,"step_seconds":1.0,"tokens_per_second":1.0}"#;
        std::fs::write(&path, format!("{line}\n")).expect("written");
        let error = read(&path).expect_err("no loss").to_string();
        assert!(error.contains("metrics.jsonl:1:"), "{error}");
        assert!(error.contains("loss"), "{error}");
    }

    #[test]
    fn a_last_line_torn_at_any_byte_is_dropped() {
        let (_folder, path) = folder();
        write_steps(&path, 2);
        let whole = std::fs::read(&path).expect("bytes");
        let first = whole.iter().position(|b| *b == b'\n').expect("a line") + 1;
        for end in first..whole.len() {
            std::fs::write(&path, &whole[..end]).expect("torn");
            // With all but its line break the record is whole.
            let expected = 1 + usize::from(end == whole.len() - 1);
            assert_eq!(read(&path).expect("read").len(), expected, "cut at {end}");
        }
    }

    #[test]
    fn a_bad_line_elsewhere_is_an_error_with_its_number() {
        let (_folder, path) = folder();
        write_steps(&path, 3);
        let text = std::fs::read_to_string(&path).expect("text");
        let bad = text.replacen("\"step\":1", "\"step\":-1", 1);
        std::fs::write(&path, &bad).expect("spoiled");
        let error = read(&path).expect_err("a bad line");
        assert!(matches!(error, MetricsError::BadLine { line: 2, .. }));
        assert!(MetricsWriter::open_at_step(&path, &at(1)).is_err());
        assert_eq!(std::fs::read_to_string(&path).expect("text"), bad);
    }

    #[test]
    fn a_line_without_end_is_an_error() {
        let (_folder, path) = folder();
        std::fs::write(&path, vec![b'x'; MAX_LINE_BYTES as usize + 2]).expect("written");
        let error = read(&path).expect_err("too long");
        assert!(matches!(error, MetricsError::LongLine { line: 1, .. }));
    }

    #[test]
    fn a_missing_file_is_an_error_with_its_name() {
        let (_folder, path) = folder();
        let error = read(&path).expect_err("missing").to_string();
        assert!(error.contains("metrics.jsonl: cannot open it"), "{error}");
    }

    #[test]
    fn resuming_drops_what_is_done_again_and_keeps_the_rest_to_the_byte() {
        let (_folder, path) = folder();
        write_steps(&path, 6);
        let whole = std::fs::read(&path).expect("bytes");
        let mut torn = whole.clone();
        torn.extend_from_slice(b"{\"event\":\"st");
        std::fs::write(&path, &torn).expect("torn");
        let mut writer = MetricsWriter::open_at_step(&path, &at(4)).expect("resumed");
        writer.write(&step(4, 3.5)).expect("written");
        let records = read(&path).expect("read back");
        let steps: Vec<u64> = records.iter().map(Record::step).collect();
        assert_eq!(steps, [0, 1, 2, 3, 4]);
        assert_eq!(records[4], step(4, 3.5));
        let bytes = std::fs::read(&path).expect("bytes");
        let n_same = bytes.iter().zip(&whole).take_while(|(a, b)| a == b).count();
        let n_kept = whole.split_inclusive(|b| *b == b'\n').take(4).flatten();
        assert!(n_same >= n_kept.count());
        assert!(!unfinished_path(&path).exists());
    }

    #[test]
    fn resuming_gives_a_last_line_the_break_it_lacks() {
        let (_folder, path) = folder();
        write_steps(&path, 2);
        let mut bytes = std::fs::read(&path).expect("bytes");
        bytes.pop();
        std::fs::write(&path, &bytes).expect("without its line break");
        let mut writer = MetricsWriter::open_at_step(&path, &at(2)).expect("resumed");
        writer.write(&step(2, 3.5)).expect("written");
        assert_eq!(read(&path).expect("read back").len(), 3);
    }

    #[test]
    fn resuming_without_a_file_begins_one_and_a_new_run_never_writes_over_one() {
        let (_folder, path) = folder();
        let mut writer = MetricsWriter::open_at_step(&path, &at(5)).expect("begun");
        writer.write(&step(5, 1.0)).expect("written");
        let error = MetricsWriter::create(&path).expect_err("there already");
        assert!(matches!(error, MetricsError::Exists { .. }));
        assert_eq!(read(&path).expect("untouched").len(), 1);
    }
}
