//! `manifest.json`: the contents of a folder of prepared text, and how it was made.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::findings::{Dropped, Findings, ReadReport};
use super::prepare::PrepareOptions;
use super::shard_format::{IdWidth, ShardFormat, Split};
use super::skipped::SkippedFiles;
use crate::files::{FileError, read_at_most, sha256_hex, sha256_of_file};

/// File name of the manifest within the folder.
pub const MANIFEST: &str = "manifest.json";
/// File name of the tokenizer, next to the manifest.
pub const TOKENIZER: &str = "tokenizer.json";
/// Version of the format that this program writes and reads.
const VERSION: u32 = 1;
/// Maximum size of a manifest in bytes: enough for a million sources.
const MAX_BYTES: u64 = 256 << 20;

/// A shard: a file of token ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardEntry {
    /// Name of the file within the folder.
    pub file: String,
    /// The split whose tokens the shard contains.
    pub split: Split,
    /// Number of token ids in the shard.
    pub n_tokens: u64,
    /// SHA-256 of the file in hexadecimal.
    pub sha256: String,
}

/// A file that documents were read from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceEntry {
    /// Path of the file, as it was given.
    pub path: String,
    /// Size of the file on disk in bytes.
    pub file_bytes: u64,
    /// Number of its documents that were kept.
    pub n_documents: u64,
}

/// The tokenizer of the ids, stored next to the manifest as `tokenizer.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerEntry {
    /// Kind of the tokenizer, see [`Tokenizer::kind`](crate::tokenizer::Tokenizer::kind).
    pub kind: String,
    /// Hash of the tokenizer, see [`Tokenizer::hash`](crate::tokenizer::Tokenizer::hash).
    pub sha256: String,
    /// Number of token ids.
    pub vocab_size: usize,
    /// The id between documents, if the tokenizer has one.
    pub end_of_text: Option<u32>,
}

/// The contents of a folder of prepared text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format; currently 1.
    pub version: u32,
    /// The shards' file format.
    pub format: ShardFormat,
    /// The tokenizer that produced the ids.
    pub tokenizer: TokenizerEntry,
    /// Bytes per id, 2 or 4.
    pub id_bytes: u64,
    /// Number of documents that were kept.
    pub n_documents: u64,
    /// Size of their text in bytes of UTF-8.
    pub n_text_bytes: u64,
    /// The shards; those of a split are in order.
    pub shards: Vec<ShardEntry>,
    /// The files that the documents came from, in order.
    pub sources: Vec<SourceEntry>,
    /// Documents and lines that were dropped.
    pub dropped: Dropped,
    /// Properties of the texts that their author may not know.
    #[serde(default)]
    pub findings: Findings,
    /// Files of folders and patterns that were not read.
    #[serde(default)]
    pub skipped: SkippedFiles,
    /// The options it was made with.
    pub options: PrepareOptions,
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The manifest or a shard could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not a manifest, or its entries disagree.
    #[error("{}: expected the manifest of a folder that calame data prepare made, found: {found}; prepare the text again into another folder", .path.display())]
    Foreign {
        /// Path of the manifest.
        path: PathBuf,
        /// The contradiction, or the parser's message.
        found: String,
    },
    /// A shard whose checksum differs from the manifest's.
    #[error("{}: expected SHA-256 {expected}, found {found}; the file is damaged or another one: copy it or prepare the text again", .path.display())]
    Damaged {
        /// Path of the shard.
        path: PathBuf,
        /// The checksum in the manifest.
        expected: String,
        /// The checksum of the file.
        found: String,
    },
}

impl Manifest {
    /// The version written into a new manifest.
    pub(super) const VERSION: u32 = VERSION;

    /// Reads a folder's manifest. Also returns the SHA-256 of the file, by which a run recognises its text.
    ///
    /// # Errors
    /// Names the file and what is wrong with it. Missing shards are only found when they are opened.
    pub fn read(folder: &Path) -> Result<(Manifest, String), ManifestError> {
        let path = folder.join(MANIFEST);
        let foreign = |found: String| ManifestError::Foreign { path: path.clone(), found };
        let bytes = read_at_most(&path, MAX_BYTES).map_err(|error| match error.source.kind() {
            io::ErrorKind::FileTooLarge => foreign(error.source.to_string()),
            _ => error.into(),
        })?;
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| foreign(error.to_string()))?;
        manifest.check().map_err(foreign)?;
        Ok((manifest, sha256_hex(&bytes)))
    }

    /// Checks that the entries agree with each other.
    fn check(&self) -> Result<(), String> {
        if self.version != VERSION {
            return Err(format!("version {}, where this program reads {VERSION}", self.version));
        }
        if self.id_bytes != IdWidth::of_vocabulary(self.tokenizer.vocab_size).n_bytes() {
            return Err(format!("ids of {} bytes for {} tokens", self.id_bytes, self.tokenizer.vocab_size));
        }
        let mut names = BTreeSet::new();
        let mut n_tokens = 0u64;
        for shard in &self.shards {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if !shard.file.chars().all(is_plain) || shard.file.trim_matches('.').is_empty() {
                return Err(format!("a shard named {:?}", shard.file));
            }
            if !names.insert(&shard.file) {
                return Err(format!("the shard {} twice", shard.file));
            }
            n_tokens = n_tokens.checked_add(shard.n_tokens).ok_or("more tokens than can be counted")?;
        }
        Ok(())
    }

    /// What was read and noticed.
    pub fn report(&self) -> ReadReport {
        ReadReport {
            n_documents: self.n_documents,
            dropped: self.dropped.clone(),
            findings: self.findings.clone(),
            skipped: self.skipped.clone(),
            special_tokens: self.options.special_tokens,
        }
    }

    /// Width of the token ids.
    pub fn width(&self) -> IdWidth {
        IdWidth::of_vocabulary(self.tokenizer.vocab_size)
    }

    /// Number of tokens in a split.
    pub fn n_tokens(&self, split: Split) -> u64 {
        self.shards.iter().filter(|shard| shard.split == split).map(|shard| shard.n_tokens).sum()
    }

    /// Compares every shard in `folder` with its checksum; `progress` receives the size of each piece read.
    ///
    /// # Errors
    /// Returns the first shard that cannot be read or has another checksum.
    pub fn verify(&self, folder: &Path, progress: &mut dyn FnMut(u64)) -> Result<(), ManifestError> {
        for shard in &self.shards {
            let path = folder.join(&shard.file);
            let found = sha256_of_file(&path, progress)?;
            if found != shard.sha256 {
                return Err(ManifestError::Damaged { path, expected: shard.sha256.clone(), found });
            }
        }
        Ok(())
    }
}
