//! Reads a metrics file line by line.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::error::{MAX_LINE_BYTES, MetricsError};
use super::record::Record;
use crate::files::{FileError, open_file};

/// Reads all records of a metrics file, in the order in which they were written.
///
/// An incomplete last line without a line break, as left by a killed run, is dropped.
///
/// # Errors
///
/// If the file cannot be read, or any other line is not a record; the error contains file and line number.
pub fn read(path: &Path) -> Result<Vec<Record>, MetricsError> {
    let mut records = Vec::new();
    for_each_line(path, |record, _| records.push(record))?;
    Ok(records)
}

/// Calls `visit` with each record and the bytes of its line, without the line break.
pub(super) fn for_each_line(path: &Path, mut visit: impl FnMut(Record, &[u8])) -> Result<(), MetricsError> {
    let mut reader = BufReader::new(open_file(path)?);
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
            // Only the last line can lack a line break: the run was killed while writing it.
            Err(_) if !ended => break,
            Err(source) => {
                let path = path.to_path_buf();
                return Err(MetricsError::BadLine { path, line, source });
            }
        }
    }
    Ok(())
}
