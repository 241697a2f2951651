//! Resolves inputs to files and decides how each is read.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::corpus_error::CorpusError;
use super::super::inputs::{self, Input};
use super::super::names::{self, BUILTIN};
use super::super::skipped::SkippedFiles;
use super::error::DocumentError;
use super::inspect::{Rejection, inspect};
use super::kind::{Compression, Contents, DocumentSource, SourceKind, contents_of, is_known_ending};
use super::options::ReadOptions;

/// The built-in story, which is also read if no input is given.
const STORY: &str = include_str!("../story.txt");

/// The files that inputs name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The files to read, in order.
    pub files: Vec<DocumentSource>,
    /// The files of folders and patterns that are not read.
    pub skipped: SkippedFiles,
}

/// Finds the files that `inputs` name, in this order; without inputs, the built-in story.
///
/// An input is a file, a folder (all files below it with a known ending, sorted by path; links to folders are not
/// followed), a glob (all files that match, sorted by path), or a name from [`names`] that is stored in `cache_dir`.
/// The known endings are .txt, .md, .jsonl, .ndjson and .json, each optionally followed by .gz or .zst, and .parquet.
///
/// A file is understood by its ending and its beginning. Files of a folder or a glob that cannot be read as documents
/// are skipped and listed in [`Sources::skipped`].
///
/// # Errors
/// Returns the first input that is missing, gives no file, or is a file that cannot be read as documents.
pub fn find_sources<S: AsRef<str>>(
    inputs: &[S],
    cache_dir: &Path,
    options: &ReadOptions,
) -> Result<Sources, DocumentError> {
    let mut sources = Sources::default();
    if inputs.is_empty() {
        sources.files.push(builtin());
    }
    for input in inputs {
        let input = input.as_ref();
        let mut skipped = SkippedFiles::default();
        let paths = match Input::of(input)? {
            Input::File => {
                sources.files.push(explicit(PathBuf::from(input), options)?);
                continue;
            }
            Input::Named(text) => {
                let path = names::check(text, cache_dir).map_err(CorpusError::from)?;
                sources.files.push(explicit(path, options)?);
                continue;
            }
            Input::Builtin => {
                sources.files.push(builtin());
                continue;
            }
            Input::Folder => inputs::files_below(Path::new(input), is_known_ending, &mut skipped)?,
            Input::Glob => inputs::files_matching(input, &mut skipped)?,
        };
        let n_before = sources.files.len();
        for path in &paths {
            match described(path.clone(), options, false) {
                Ok(source) => sources.files.push(source),
                Err(rejection) => {
                    let (reason, details) = rejection.reason();
                    skipped.add(path, reason, details);
                }
            }
        }
        if sources.files.len() == n_before {
            return Err(nothing_in(input, paths.is_empty(), skipped).into());
        }
        sources.skipped.merge(skipped);
    }
    Ok(sources)
}

/// The error of a folder or pattern without a usable file.
fn nothing_in(input: &str, no_candidate: bool, skipped: SkippedFiles) -> CorpusError {
    if !no_candidate {
        return CorpusError::NothingUsable { input: input.to_owned(), skipped };
    }
    match Path::new(input).is_dir() {
        true => CorpusError::EmptyFolder { path: PathBuf::from(input) },
        false => CorpusError::NoMatch { pattern: input.to_owned() },
    }
}

fn builtin() -> DocumentSource {
    DocumentSource {
        path: PathBuf::from(BUILTIN),
        file_bytes: STORY.len() as u64,
        kind: SourceKind::Text,
        compression: Compression::None,
        content: Some(STORY),
    }
}

/// A file that was named itself.
fn explicit(path: PathBuf, options: &ReadOptions) -> Result<DocumentSource, DocumentError> {
    described(path.clone(), options, true).map_err(|rejection| rejection.into_error(&path))
}

/// Describes a file by its ending and its beginning. `is_named` says whether the user named it: the whole of another
/// one is checked, since it can still be skipped.
fn described(path: PathBuf, options: &ReadOptions, is_named: bool) -> Result<DocumentSource, Rejection> {
    let unreadable = |reason| Rejection::Failed(DocumentError::Unreadable { path: path.clone(), reason });
    // Checked before opening: opening a pipe would block until it has a writer.
    let meta = fs::metadata(&path).map_err(unreadable)?;
    if !meta.is_file() {
        return Err(Rejection::Failed(CorpusError::NotAFile { path }.into()));
    }
    let (contents, compression) = contents_of(&path);
    let kind = if contents == Contents::Parquet { SourceKind::Parquet } else { SourceKind::Text };
    let mut source = DocumentSource { path, file_bytes: meta.len(), kind, compression, content: None };
    source.kind = inspect(&source, contents, options, is_named)?;
    Ok(source)
}
