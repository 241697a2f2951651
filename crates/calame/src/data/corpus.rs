//! Reads the files of a run and joins them into one text.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::corpus_error::{CorpusError, IllFormed};
use super::names::{self, BUILTIN, NamedText};
use crate::files::{read_at_most, sha256_hex};

pub use super::corpus_error::MAX_BYTES;

/// The built-in story, used when no input is given.
const STORY: &str = include_str!("story.txt");

/// Extensions of the files that are read from a folder.
const TEXT_EXTENSIONS: [&str; 2] = ["txt", "md"];

/// A text and the files it was read from.
#[derive(Clone, Debug)]
pub struct Corpus {
    text: String,
    sources: Vec<CorpusSource>,
}

/// One file's contribution to a [`Corpus`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorpusSource {
    /// Path of the file; `builtin` for the built-in story.
    pub path: PathBuf,
    /// Size of the file in bytes, including a byte order mark.
    pub file_bytes: u64,
    /// Number of characters (Unicode scalar values) that the file contributed.
    pub n_characters: usize,
    /// Byte range of these characters in [`Corpus::text`].
    pub range: Range<usize>,
}

impl Corpus {
    /// Reads `inputs` and joins them in the given order; without inputs it uses the built-in story.
    ///
    /// An input is a file, a folder (all .txt and .md files below it, sorted by path; links to folders are not
    /// followed), a
    /// name from [`names`] (looked up in `cache_dir`), or a glob (all matching files, sorted by path). An
    /// existing path takes
    /// precedence over a name, and a name over a glob. A UTF-8 byte order mark is dropped. A line break is
    /// inserted between
    /// two files if the first does not end in one; [`CorpusSource::range`] says where each file's text is.
    ///
    /// # Errors
    ///
    /// Returns the first input that gives no text: missing, empty, only white space, not UTF-8, unreadable, a
    /// folder or glob without files, or a total of more than [`MAX_BYTES`].
    pub fn load<S: AsRef<str>>(inputs: &[S], cache_dir: &Path) -> Result<Self, CorpusError> {
        let mut corpus = Self { text: String::new(), sources: Vec::new() };
        if inputs.is_empty() {
            corpus.push_builtin();
        }
        for input in inputs {
            let input = input.as_ref();
            match Input::of(input)? {
                Input::File => corpus.push_file(Path::new(input))?,
                Input::Folder => corpus.push_files(&files_below(Path::new(input), is_text)?)?,
                Input::Builtin => corpus.push_builtin(),
                Input::Named(text) => corpus.push_file(&names::check(text, cache_dir)?)?,
                Input::Glob => corpus.push_files(&files_matching(input)?)?,
            }
        }
        Ok(corpus)
    }

    /// The text of all files, joined.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The files, in the order of the text.
    pub fn sources(&self) -> &[CorpusSource] {
        &self.sources
    }

    /// Number of characters (Unicode scalar values) in the whole text.
    pub fn n_characters(&self) -> usize {
        self.text.chars().count()
    }

    /// SHA-256 of the text in hexadecimal. A resumed run compares it with the recorded one.
    pub fn sha256(&self) -> String {
        sha256_hex(self.text.as_bytes())
    }

    fn push_builtin(&mut self) {
        self.push(PathBuf::from(BUILTIN), STORY.len() as u64, STORY.to_owned());
    }

    fn push_files(&mut self, paths: &[PathBuf]) -> Result<(), CorpusError> {
        paths.iter().try_for_each(|path| self.push_file(path))
    }

    fn push_file(&mut self, path: &Path) -> Result<(), CorpusError> {
        let limit = MAX_BYTES.saturating_sub(self.text.len() as u64);
        let bytes = read_bytes(path, limit)?;
        let file_bytes = bytes.len() as u64;
        let text = to_text(path, bytes)?;
        self.push(path.to_owned(), file_bytes, text);
        Ok(())
    }

    fn push(&mut self, path: PathBuf, file_bytes: u64, text: String) {
        let n_characters = text.chars().count();
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        let start = self.text.len();
        if start == 0 {
            // Moved, not copied: most texts are one file.
            self.text = text;
        } else {
            self.text.push_str(&text);
        }
        self.sources.push(CorpusSource { path, file_bytes, n_characters, range: start..self.text.len() });
    }
}

/// The named texts among `inputs` that [`Corpus::load`] will look up in the cache folder, in order, so that a
/// program can download the missing ones.
///
/// # Errors
///
/// Returns an error for an input that is neither a path, a name nor a pattern.
pub fn named_inputs<S: AsRef<str>>(inputs: &[S]) -> Result<Vec<&'static NamedText>, CorpusError> {
    let mut found = Vec::new();
    for input in inputs {
        if let Input::Named(text) = Input::of(input.as_ref())?
            && !found.contains(&text)
        {
            found.push(text);
        }
    }
    Ok(found)
}

/// The kind of an input.
pub(super) enum Input {
    File,
    Folder,
    Builtin,
    Named(&'static NamedText),
    Glob,
}

impl Input {
    pub(super) fn of(input: &str) -> Result<Self, CorpusError> {
        let path = Path::new(input);
        match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => return Ok(Self::Folder),
            Ok(_) => return Ok(Self::File),
            // A pattern whose parent "folder" is a file, or that is too long for a path, is still a pattern.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(unreadable(path)(error));
            }
            Err(_) => {}
        }
        if input == BUILTIN {
            Ok(Self::Builtin)
        } else if let Some(text) = names::find(input) {
            Ok(Self::Named(text))
        } else if input.contains(['*', '?', '[']) {
            Ok(Self::Glob)
        } else {
            Err(CorpusError::Missing { input: input.to_owned() })
        }
    }
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> CorpusError + use<> {
    let path = path.to_owned();
    move |reason| CorpusError::Unreadable { path, reason }
}

/// Whether a file in a folder has a text extension.
fn is_text(path: &Path) -> bool {
    path.extension().is_some_and(|extension| TEXT_EXTENSIONS.iter().any(|text| extension.eq_ignore_ascii_case(text)))
}

/// The files below `folder` that `is_wanted` accepts, sorted by path.
pub(super) fn files_below(folder: &Path, is_wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>, CorpusError> {
    let mut files = Vec::new();
    // Links to folders are not followed, so that a cycle of links cannot loop; a link to a file is accepted below.
    for entry in WalkDir::new(folder) {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(folder).to_owned();
            CorpusError::Unreadable { path, reason: error.into() }
        })?;
        let path = entry.path();
        if is_wanted(path) && fs::metadata(path).map_err(unreadable(path))?.is_file() {
            files.push(entry.into_path());
        }
    }
    if files.is_empty() {
        return Err(CorpusError::EmptyFolder { path: folder.to_owned() });
    }
    files.sort();
    Ok(files)
}

/// The files that match `pattern`, whatever their extensions, sorted by path.
pub(super) fn files_matching(pattern: &str) -> Result<Vec<PathBuf>, CorpusError> {
    let matches = glob::glob(pattern).map_err(|error| CorpusError::BadPattern {
        pattern: pattern.to_owned(),
        reason: error.msg,
        at: error.pos,
    })?;
    let mut files = Vec::new();
    for path in matches {
        let path = path.map_err(|error| unreadable(error.path())(error.into()))?;
        // Folders are excluded: `**/*` matches both a folder and the files in it.
        if !path.is_dir() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(CorpusError::NoMatch { pattern: pattern.to_owned() });
    }
    files.sort();
    Ok(files)
}

/// Reads a file of at most `limit` bytes.
fn read_bytes(path: &Path, limit: u64) -> Result<Vec<u8>, CorpusError> {
    // Checked before opening: opening a pipe would block until it has a writer.
    let meta = fs::metadata(path).map_err(unreadable(path))?;
    if !meta.is_file() {
        return Err(CorpusError::NotAFile { path: path.to_owned() });
    }
    let too_long = |file_bytes: u64| CorpusError::TooLong {
        path: path.to_owned(),
        n_bytes: (MAX_BYTES - limit).saturating_add(file_bytes),
    };
    if meta.len() > limit {
        return Err(too_long(meta.len()));
    }
    read_at_most(path, limit).map_err(|error| match error.source.kind() {
        // The file has grown since its size was read.
        io::ErrorKind::FileTooLarge => too_long(limit.saturating_add(1)),
        _ => unreadable(path)(error.source),
    })
}

/// Decodes a file's bytes as UTF-8, without a byte order mark.
fn to_text(path: &Path, bytes: Vec<u8>) -> Result<String, CorpusError> {
    let path = || path.to_owned();
    let file_bytes = bytes.len() as u64;
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let cut_off = error.utf8_error().error_len().is_none();
        CorpusError::NotUtf8 { path: path(), found: ill_formed(error.as_bytes(), at, cut_off) }
    })?;
    if text.starts_with('\u{FEFF}') {
        text.drain(..'\u{FEFF}'.len_utf8());
    }
    if text.is_empty() {
        return Err(CorpusError::Empty { path: path() });
    }
    if text.trim_start().is_empty() {
        return Err(CorpusError::OnlyWhitespace { path: path(), file_bytes });
    }
    Ok(text)
}

/// First bytes of formats that are often mistaken for text, what they are, and what to do with them.
const FORMATS: [(&[u8], &str, &str); 7] = [
    (b"%PDF-", "a PDF document", "take its text out, for example: pdftotext FILE.pdf FILE.txt"),
    (
        b"\x1F\x8B",
        "a gzip archive",
        "unpack it: gunzip < FILE > NEW_FILE; calame data prepare reads it as FILE.txt.gz too",
    ),
    (
        b"\x28\xB5\x2F\xFD",
        "a zstd archive",
        "unpack it: zstd -d < FILE > NEW_FILE; calame data prepare reads it as FILE.txt.zst too",
    ),
    (b"\xFD7zXZ\0", "an xz archive", "unpack it: unxz < FILE > NEW_FILE"),
    (b"BZh91AY&SY", "a bzip2 archive", "unpack it: bunzip2 < FILE > NEW_FILE"),
    (
        b"PK\x03\x04",
        "a zip archive (a .docx, .odt or .epub is one too)",
        "unpack it, or save the document as plain text",
    ),
    (b"PAR1\x15", "a Parquet file", "calame data prepare reads it under its ending, .parquet"),
];

/// Describes the first byte that is not UTF-8, at byte `at`.
pub(super) fn ill_formed(bytes: &[u8], at: usize, cut_off: bool) -> IllFormed {
    // The byte order mark of UTF-32LE begins with that of UTF-16LE.
    const MARKS: [(&[u8], &str); 3] =
        [(&[0xFF, 0xFE, 0, 0], "UTF-32"), (&[0xFF, 0xFE], "UTF-16"), (&[0xFE, 0xFF], "UTF-16")];
    if let Some((_, encoding)) = MARKS.iter().find(|(mark, _)| bytes.starts_with(mark)) {
        return IllFormed::ByteOrderMark { encoding };
    }
    if let Some((_, name, remedy)) = FORMATS.iter().find(|(start, ..)| bytes.starts_with(start)) {
        return IllFormed::Format { name, remedy };
    }
    if cut_off {
        return IllFormed::CutOff { at };
    }
    let line = bytes[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
    IllFormed::Byte { byte: bytes[at], at, line }
}
