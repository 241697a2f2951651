//! `manifest.json`: what a folder of prepared text holds, and how it was made.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::prepare::PrepareOptions;
use super::shard_format::{IdWidth, Part, ShardFormat};
use crate::files::{FileError, read_at_most, sha256_hex, sha256_of_file};

/// The file's name.
pub const MANIFEST: &str = "manifest.json";
/// The name of the file beside it with the tokenizer.
pub const TOKENIZER: &str = "tokenizer.json";
/// The version of the format.
const VERSION: u32 = 1;
/// Bytes of the longest manifest: a million sources.
const MAX_BYTES: u64 = 256 << 20;

/// A file of token ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardEntry {
    /// Its name in the folder.
    pub file: String,
    /// Its part.
    pub split: Part,
    /// Its ids.
    pub n_tokens: u64,
    /// SHA-256 of the file in hexadecimal digits.
    pub sha256: String,
}

/// A file that documents came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceEntry {
    /// The file, as it was given.
    pub path: String,
    /// Its length in bytes on the disk.
    pub file_bytes: u64,
    /// Documents that were kept of it.
    pub n_documents: u64,
}

/// The tokenizer of the ids, which lies beside the manifest as `tokenizer.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerEntry {
    /// [`Tokenizer::kind`](crate::tokenizer::Tokenizer::kind).
    pub kind: String,
    /// [`Tokenizer::hash`](crate::tokenizer::Tokenizer::hash).
    pub sha256: String,
    /// Number of its ids.
    pub vocab_size: usize,
    /// The id between documents, where the tokenizer has one.
    pub end_of_text: Option<u32>,
}

/// What was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropped {
    /// Documents that had come before.
    pub duplicates: u64,
    /// Documents of nothing but white space.
    pub empty: u64,
    /// Lines and rows that are no documents.
    pub bad: u64,
    /// The first of these: file, line or row, and why.
    pub first_bad: Option<String>,
}

/// A folder of prepared text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format, 1.
    pub version: u32,
    /// Whose format the shards have.
    pub format: ShardFormat,
    /// The tokenizer.
    pub tokenizer: TokenizerEntry,
    /// Bytes of an id, 2 or 4.
    pub id_bytes: u64,
    /// Documents that were kept.
    pub n_documents: u64,
    /// Bytes of their text, in UTF-8.
    pub n_text_bytes: u64,
    /// The files of ids, those of a part in their order.
    pub shards: Vec<ShardEntry>,
    /// Where the documents came from, in their order.
    pub sources: Vec<SourceEntry>,
    /// What was left out.
    pub dropped: Dropped,
    /// How it was made.
    pub options: PrepareOptions,
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not a manifest.
    #[error("{}: expected the manifest of a folder that calame data prepare made, found: {found}; prepare the text again into another folder", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// A shard that is not what it was.
    #[error("{}: expected SHA-256 {expected}, found {found}; the file is damaged or another one: copy it or prepare the text again", .path.display())]
    Damaged {
        /// The shard.
        path: PathBuf,
        /// The manifest's checksum.
        expected: String,
        /// The file's.
        found: String,
    },
}

impl Manifest {
    /// The version that is written.
    pub(super) const VERSION: u32 = VERSION;

    /// Reads a folder's manifest; gives the SHA-256 of the file too, by which a run knows its text again.
    ///
    /// # Errors
    /// Names the file and what is wrong with it. Whether the shards are there is found when they are opened.
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

    /// Whether its parts agree.
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

    /// Bits of its ids.
    pub fn width(&self) -> IdWidth {
        IdWidth::of_vocabulary(self.tokenizer.vocab_size)
    }

    /// Tokens of a part.
    pub fn n_tokens(&self, part: Part) -> u64 {
        self.shards.iter().filter(|shard| shard.split == part).map(|shard| shard.n_tokens).sum()
    }

    /// Compares every shard in `folder` with its checksum; `progress` is told the bytes that were read.
    ///
    /// # Errors
    /// The first shard that cannot be read or is not what it was.
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
