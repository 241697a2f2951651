//! Resolves inputs to files and decides how each is read.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::corpus::{self, Input};
use super::super::corpus_error::CorpusError;
use super::super::names;
use super::error::DocumentError;

/// How a file is divided into documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceKind {
    /// The whole file is one document: .txt, .md.
    Text,
    /// Each line is a JSON object with the document in a field: .jsonl.
    JsonLines,
    /// Each row is a document: .parquet.
    Parquet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// A file that contains documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentSource {
    /// Path of the file, as it was given or found.
    pub path: PathBuf,
    /// Size of the file on disk in bytes, compressed if the file is.
    pub file_bytes: u64,
    /// How the file is divided into documents.
    pub kind: SourceKind,
    pub(super) compression: Compression,
}

impl DocumentSource {
    /// Describes a file, judging by its extension.
    fn of(path: PathBuf) -> Result<DocumentSource, DocumentError> {
        let Some((kind, compression)) = kind_of(&path) else {
            return Err(DocumentError::UnknownKind { path });
        };
        let meta = fs::metadata(&path).map_err(DocumentError::unreadable(&path))?;
        if !meta.is_file() {
            return Err(CorpusError::NotAFile { path }.into());
        }
        Ok(DocumentSource { path, file_bytes: meta.len(), kind, compression })
    }
}

/// Finds the files that `inputs` name, in this order.
///
/// An input is a file (.txt, .md or .jsonl, each optionally followed by .gz or .zst, or .parquet), a folder (all
/// such files below it, sorted by path; links to folders are not followed), a glob (all such files that match,
/// sorted by path), or a name from [`names`] that is stored in `cache_dir`.
///
/// # Errors
/// Returns the first input that is missing, matches no file, or is a file of another kind.
pub fn find_sources<S: AsRef<str>>(inputs: &[S], cache_dir: &Path) -> Result<Vec<DocumentSource>, DocumentError> {
    let is_known = |path: &Path| kind_of(path).is_some();
    let mut sources = Vec::new();
    for input in inputs {
        let input = input.as_ref();
        let paths = match Input::of(input)? {
            Input::File => vec![PathBuf::from(input)],
            Input::Folder => match corpus::files_below(Path::new(input), is_known) {
                Err(CorpusError::EmptyFolder { path }) => return Err(DocumentError::EmptyFolder { path }),
                found => found?,
            },
            Input::Named(text) => vec![names::check(text, cache_dir).map_err(CorpusError::from)?],
            Input::Glob => {
                let mut paths = corpus::files_matching(input)?;
                paths.retain(|path| is_known(path));
                if paths.is_empty() {
                    return Err(CorpusError::NoMatch { pattern: input.to_owned() }.into());
                }
                paths
            }
            Input::Builtin => return Err(DocumentError::Builtin),
        };
        for path in paths {
            sources.push(DocumentSource::of(path)?);
        }
    }
    Ok(sources)
}

fn kind_of(path: &Path) -> Option<(SourceKind, Compression)> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let (name, compression) = if let Some(name) = name.strip_suffix(".gz") {
        (name, Compression::Gzip)
    } else if let Some(name) = name.strip_suffix(".zst") {
        (name, Compression::Zstd)
    } else {
        (name.as_str(), Compression::None)
    };
    let kind = match Path::new(name).extension()?.to_str()? {
        "txt" | "md" => SourceKind::Text,
        "jsonl" => SourceKind::JsonLines,
        "parquet" if compression == Compression::None => SourceKind::Parquet,
        _ => return None,
    };
    Some((kind, compression))
}
