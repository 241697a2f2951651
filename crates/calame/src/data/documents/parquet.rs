//! Parquet files: each row of a text column is a document.
//!
//! The files are read with the `parquet` crate, without Arrow. Malformed files have made it panic, so a panic
//! inside it is reported as an error.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Type;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::document::{Document, Found, MAX_DOCUMENT_BYTES};
use super::error::DocumentError;
use super::footer::false_claim;
use super::kind::DocumentSource;
use super::open::{Meter, open_file};
use super::pages::Pages;

/// Rows read per call, which bounds the memory for decoded values.
const BATCH_ROWS: usize = 256;

/// Reads one column of a Parquet file, row group by row group.
pub(crate) struct Rows {
    path: PathBuf,
    file: SerializedFileReader<File>,
    /// The same file, for columns in codecs that are decoded here.
    raw: Arc<File>,
    column: usize,
    /// Definition level of a value; a lower one is a row without a value.
    max_level: i16,
    separates: bool,
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
    pub(super) fn open(
        source: &DocumentSource,
        column: &str,
        separates: bool,
        meter: &Meter,
    ) -> Result<Rows, DocumentError> {
        let path = &source.path;
        let (file, raw) = open_parquet(path)?;
        let column = find_column(&file, column).map_err(|found| DocumentError::NoColumn {
            path: path.clone(),
            column: column.to_owned(),
            found,
        })?;
        let n_groups = file.num_row_groups();
        let max_level = file.metadata().file_metadata().schema_descr().column(column).max_def_level();
        Ok(Rows {
            path: path.clone(),
            file,
            raw,
            column,
            max_level,
            separates,
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
            Ok(text) => Ok(Some(Found::Document(Document::whole(text, self.separates)))),
            Err(error) => bad(format!("not UTF-8 at byte {}", error.valid_up_to())),
        }
    }

    fn open_group(&mut self) -> Result<(), DocumentError> {
        if self.next_group > 0 {
            self.report_bytes(self.bytes_per_group);
        }
        let (file, raw, group, column) = (&self.file, &self.raw, self.next_group, self.column);
        let reader = guarded(&self.path, || {
            let rows = file.metadata().row_group(group);
            let n_rows = usize::try_from(rows.num_rows()).unwrap_or(0);
            match Pages::open(raw, rows.column(column), n_rows)? {
                Some(pages) => Ok(get_column_reader(rows.column(column).column_descr_ptr(), Box::new(pages))),
                None => file.get_row_group(group)?.get_column_reader(column),
            }
        })?;
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
        let present = self.max_level;
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
fn find_column(file: &SerializedFileReader<File>, name: &str) -> Result<usize, String> {
    let schema = file.metadata().file_metadata().schema_descr();
    let is_list = |i: usize| schema.column(i).max_rep_level() > 0;
    let is_text = |i: &usize| schema.column(*i).physical_type() == Type::BYTE_ARRAY && !is_list(*i);
    let path = |i: usize| schema.column(i).path().string();
    let all = 0..schema.num_columns();
    if let Some(i) = all.clone().find(|&i| path(i) == name) {
        return match (is_text(&i), is_list(i)) {
            (true, _) => Ok(i),
            (_, true) => Err("a list in each row; write a column with one text in each row".to_owned()),
            _ => Err(format!("a column of another type, {}", schema.column(i).physical_type())),
        };
    }
    // A column with others in it: a list or a struct.
    let inside: Vec<usize> = all.clone().filter(|&i| path(i).starts_with(&format!("{name}."))).collect();
    if let Some(&list) = inside.iter().find(|&&i| is_list(i)) {
        return Err(format!("a list in each row, {}; write a column with one text in each row", path(list)));
    }
    let texts =
        |columns: &mut dyn Iterator<Item = usize>| columns.filter(is_text).map(path).collect::<Vec<_>>().join(", ");
    if !inside.is_empty() {
        return Err(format!("a column with others in it: {}", texts(&mut inside.into_iter())));
    }
    let texts = texts(&mut all.into_iter());
    Err(if texts.is_empty() { "no column of text".to_owned() } else { texts })
}

/// Opens a file and checks its footer.
fn open_parquet(path: &Path) -> Result<(SerializedFileReader<File>, Arc<File>), DocumentError> {
    let mut file = open_file(path)?;
    let unreadable = |reason| DocumentError::Unreadable { path: path.to_owned(), reason };
    if let Some(reason) = false_claim(&mut file).map_err(unreadable)? {
        return Err(DocumentError::Parquet { path: path.to_owned(), reason });
    }
    let raw = Arc::new(file.try_clone().map_err(unreadable)?);
    Ok((guarded(path, || SerializedFileReader::new(file))?, raw))
}

/// Checks that a file can be opened as Parquet.
pub(super) fn check_parquet(source: &DocumentSource) -> Result<(), DocumentError> {
    open_parquet(&source.path).map(drop)
}

/// Calls the crate; its errors and panics become errors that name the file.
fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, DocumentError> {
    let error = |reason: String| DocumentError::Parquet { path: path.to_owned(), reason };
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => result.map_err(|e| error(e.to_string())),
        Err(_) => Err(error("the file is damaged in a way that its reader does not know".to_owned())),
    }
}
