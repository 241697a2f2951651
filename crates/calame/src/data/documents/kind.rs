//! What a file contains, by its ending.

use std::path::{Path, PathBuf};

/// How a file is divided into documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceKind {
    /// The whole file is one text.
    Text,
    /// Each line is a JSON object with the text in a field.
    JsonLines,
    /// Each row of a Parquet file is a text.
    Parquet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// What the ending of a file announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contents {
    /// A text: .txt, .md.
    Text,
    /// Lines of JSON: .jsonl, .ndjson.
    JsonLines,
    /// Rows of a table: .parquet.
    Parquet,
    /// Anything, .json among others: the beginning decides.
    Any,
}

/// A file that contains documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentSource {
    /// Path of the file, as it was given or found; `builtin` for the built-in story.
    pub path: PathBuf,
    /// Size of the file on disk in bytes, compressed if the file is.
    pub file_bytes: u64,
    /// How the file is divided into documents.
    pub kind: SourceKind,
    pub(super) compression: Compression,
    /// The text itself if it is inside the program.
    pub(super) content: Option<&'static str>,
}

impl DocumentSource {
    /// Whether the file is a text as it is on disk.
    pub(in crate::data) fn is_plain(&self) -> bool {
        self.kind == SourceKind::Text && self.compression == Compression::None
    }
}

/// The file's name in lower case without the ending of a compression, and the compression.
fn uncompressed(path: &Path) -> (String, Compression) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    if let Some(name) = name.strip_suffix(".gz") {
        (name.to_owned(), Compression::Gzip)
    } else if let Some(name) = name.strip_suffix(".zst") {
        (name.to_owned(), Compression::Zstd)
    } else {
        (name, Compression::None)
    }
}

/// The ending of a file's name in lower case, without that of a compression: `json` for `A.JSON.gz`.
pub(super) fn ending_of(path: &Path) -> String {
    let (name, _) = uncompressed(path);
    Path::new(&name).extension().unwrap_or_default().to_string_lossy().into_owned()
}

/// What a file's ending announces, and its compression.
pub(super) fn contents_of(path: &Path) -> (Contents, Compression) {
    let (_, compression) = uncompressed(path);
    let contents = match ending_of(path).as_str() {
        "txt" | "md" => Contents::Text,
        "jsonl" | "ndjson" => Contents::JsonLines,
        "parquet" if compression == Compression::None => Contents::Parquet,
        _ => Contents::Any,
    };
    (contents, compression)
}

/// Whether a file is read if it is found in a folder.
pub(super) fn is_known_ending(path: &Path) -> bool {
    contents_of(path).0 != Contents::Any || ending_of(path) == "json"
}
