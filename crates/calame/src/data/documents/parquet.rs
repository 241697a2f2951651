//! Parquet files: each row of a text column is a document.
//!
//! The files are read with the `parquet` crate, without Arrow. Malformed files have made it panic, so a panic
//! inside it is reported as an error.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use parquet::basic::Type;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::document::{Document, Found, MAX_DOCUMENT_BYTES};
use super::error::DocumentError;
use super::footer::false_claim;
use super::open::{Meter, open_file};
use super::source::DocumentSource;

/// Rows read per call, which bounds the memory for decoded values.
const BATCH_ROWS: usize = 256;

/// Reads one column of a Parquet file, row group by row group.
pub(crate) struct Rows {
    path: PathBuf,
    file: SerializedFileReader<std::fs::File>,
    column: usize,
    meter: Meter,
    /// Bytes of the file not yet reported to the meter, and the share of each row group.
    n_bytes_left: u64,
    bytes_per_group: u64,
    next_group: usize,
    group: Option<ColumnReaderImpl<ByteArrayType>>,
    /// Rows that were read but not returned yet, in reverse order; `None` is a row without a value.
    rows: Vec<Option<ByteArray>>,
    n_rows: u64,
}

impl Rows {
    pub(super) fn open(source: &DocumentSource, column: &str, meter: &Meter) -> Result<Rows, DocumentError> {
        let path = &source.path;
        let mut file = open_file(path)?;
        let claim = false_claim(&mut file);
        if let Some(reason) = claim.map_err(|reason| DocumentError::Unreadable { path: path.clone(), reason })? {
            return Err(DocumentError::Parquet { path: path.clone(), reason });
        }
        let file = guarded(path, || SerializedFileReader::new(file))?;
        let column = find_column(&file, column).map_err(|found| DocumentError::NoColumn {
            path: path.clone(),
            column: column.to_owned(),
            found,
        })?;
        let n_groups = file.num_row_groups();
        Ok(Rows {
            path: path.clone(),
            file,
            column,
            meter: meter.clone(),
            n_bytes_left: source.file_bytes,
            bytes_per_group: source.file_bytes / (n_groups as u64).max(1),
            next_group: 0,
            group: None,
            rows: Vec::new(),
            n_rows: 0,
        })
    }

    pub(super) fn next(&mut self) -> Result<Option<Found>, DocumentError> {
        while self.rows.is_empty() {
            if self.group.is_some() {
                self.read_batch()?;
            } else if self.next_group < self.file.num_row_groups() {
                self.open_group()?;
            } else {
                self.report_bytes(self.n_bytes_left);
                return Ok(None);
            }
        }
        let row = self.rows.pop().flatten();
        self.n_rows += 1;
        let bad = |reason: String| Ok(Some(Found::Bad(self.n_rows, reason)));
        let Some(bytes) = row else { return bad("no value".to_owned()) };
        if bytes.len() > MAX_DOCUMENT_BYTES {
            return bad(format!("a text of more than {MAX_DOCUMENT_BYTES} bytes"));
        }
        match std::str::from_utf8(bytes.data()) {
            Ok(text) => Ok(Some(Found::Document(Document::Whole(text.to_owned())))),
            Err(error) => bad(format!("not UTF-8 at byte {}", error.valid_up_to())),
        }
    }

    fn open_group(&mut self) -> Result<(), DocumentError> {
        if self.next_group > 0 {
            self.report_bytes(self.bytes_per_group);
        }
        let (file, group, column) = (&self.file, self.next_group, self.column);
        let reader = guarded(&self.path, || file.get_row_group(group)?.get_column_reader(column))?;
        let ColumnReader::ByteArrayColumnReader(reader) = reader else {
            return Err(self.error("the column's type is not that of the file's schema".to_owned()));
        };
        self.group = Some(reader);
        self.next_group += 1;
        Ok(())
    }

    fn read_batch(&mut self) -> Result<(), DocumentError> {
        let Some(group) = &mut self.group else { return Ok(()) };
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        let read = || group.read_records(BATCH_ROWS, Some(&mut levels), None, &mut values);
        let (n_rows, _, _) = guarded(&self.path, AssertUnwindSafe(read))?;
        if n_rows == 0 {
            self.group = None;
            return Ok(());
        }
        if values.len() == n_rows {
            // A column with a value in every row has no definition levels.
            self.rows = values.into_iter().rev().map(Some).collect();
            return Ok(());
        }
        let present = levels.iter().max().copied().unwrap_or(0).max(1);
        let mut values = values.into_iter();
        let rows = levels.iter().map(|&level| if level == present { values.next() } else { None });
        self.rows = rows.collect();
        self.rows.reverse();
        if self.rows.len() != n_rows {
            return Err(self.error(format!("{} values for {n_rows} rows", self.rows.len())));
        }
        Ok(())
    }

    /// Reports progress per row group, since a group's pages may be anywhere in the file.
    fn report_bytes(&mut self, n_bytes: u64) {
        self.meter.add(n_bytes);
        self.n_bytes_left -= n_bytes.min(self.n_bytes_left);
    }

    fn error(&self, reason: String) -> DocumentError {
        DocumentError::Parquet { path: self.path.clone(), reason }
    }
}

/// Index of a text column; if there is none, a description of the columns that exist.
fn find_column(file: &SerializedFileReader<std::fs::File>, name: &str) -> Result<usize, String> {
    let schema = file.metadata().file_metadata().schema_descr();
    let is_text = |i: &usize| {
        let column = schema.column(*i);
        column.physical_type() == Type::BYTE_ARRAY && column.max_rep_level() == 0
    };
    let path = |i: usize| schema.column(i).path().string();
    let found = (0..schema.num_columns()).find(|&i| path(i) == name);
    if let Some(i) = found.filter(is_text) {
        return Ok(i);
    }
    if found.is_some() {
        return Err("a column of another type".to_owned());
    }
    let texts: Vec<String> = (0..schema.num_columns()).filter(is_text).map(path).collect();
    Err(if texts.is_empty() { "no column of text".to_owned() } else { texts.join(", ") })
}

/// Calls the crate; its errors and panics become errors that name the file.
fn guarded<T>(path: &std::path::Path, read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, DocumentError> {
    let error = |reason: String| DocumentError::Parquet { path: path.to_owned(), reason };
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => result.map_err(|e| error(e.to_string())),
        Err(_) => Err(error("the file is damaged in a way that its reader does not know".to_owned())),
    }
}
