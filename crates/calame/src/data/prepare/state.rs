//! The state file of an unfinished preparation, from which it resumes.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::documents::DocumentSource;
use super::super::manifest::{MANIFEST, Manifest, ShardEntry, TOKENIZER};
use super::error::PrepareError;
use super::feed::FeedState;
use super::options::PrepareOptions;
use super::progress::PrepareStart;
use crate::files::{
    FileError, create_folders, is_lock_name, open_log, read_at_most, remove_abandoned, remove_file_if_exists,
    reopen_unfinished, replace_bytes, sha256_hex,
};
use crate::tokenizer::Tokenizer;

const STATE: &str = "prepare-state.json";
const SEEN: &str = "prepare-seen.bin";
/// Maximum size of a state in bytes: enough for a million sources and shards.
const MAX_STATE_BYTES: u64 = 256 << 20;
/// Bytes per hash in the file of known documents.
const HASH_BYTES: u64 = 16;
/// Part of the fingerprint. Changes when this program would produce other shards from the same text and options.
const PROGRAM: &str = "calame data prepare 2";

/// How far a preparation has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// Identifies sources, tokenizer and options, see [`fingerprint`].
    fingerprint: String,
    /// Whether shards may exist: the characters have been counted, if the split needs it.
    pub is_ready: bool,
    /// Characters used for training, in a split by characters.
    pub n_train_characters: Option<u64>,
    /// The feed's state at the start of the current source, and the pieces of this source that are written.
    pub source_start: FeedState,
    pub n_pieces: u64,
    /// The feed's current state.
    pub feed: FeedState,
    /// Documents kept from each source so far.
    pub n_documents_of: Vec<u64>,
    /// The complete shards, and the number of tokens in each unfinished one.
    pub shards: Vec<ShardEntry>,
    pub n_train_begun: u64,
    pub n_val_begun: u64,
}

impl State {
    pub(super) fn fresh(fingerprint: &str) -> State {
        State {
            fingerprint: fingerprint.to_owned(),
            is_ready: false,
            n_train_characters: None,
            source_start: FeedState::default(),
            n_pieces: 0,
            feed: FeedState::default(),
            n_documents_of: Vec::new(),
            shards: Vec::new(),
            n_train_begun: 0,
            n_val_begun: 0,
        }
    }
}

/// A hash of everything that determines the shards: options, tokenizer, and the path, size and modification time of
/// each file.
pub(super) fn fingerprint(sources: &[DocumentSource], tokenizer: &dyn Tokenizer, options: &PrepareOptions) -> String {
    let options = serde_json::to_string(options).expect("options are plain values");
    let mut text = format!("{PROGRAM}\n{}\n{options}\n", tokenizer.hash());
    for source in sources {
        text.push_str(&format!("{:?} {} {}\n", source.path, source.file_bytes, changed(&source.path)));
    }
    sha256_hex(text.as_bytes())
}

/// When a file was last modified, or nothing if the system does not say.
fn changed(path: &Path) -> String {
    #[cfg(unix)]
    if let Ok(meta) = fs::metadata(path) {
        use std::os::unix::fs::MetadataExt;
        return format!("{}.{}", meta.mtime(), meta.mtime_nsec());
    }
    let _ = path;
    String::new()
}

/// The folder of an unfinished preparation.
pub(super) struct Workplace {
    folder: PathBuf,
    fingerprint: String,
    seen: Option<BufWriter<File>>,
}

impl Workplace {
    /// Creates the folder or opens an unfinished preparation in it. One with another fingerprint is removed.
    pub(super) fn enter(folder: &Path, fingerprint: String) -> Result<(Workplace, PrepareStart), PrepareError> {
        create_folders(folder)?;
        let workplace = Workplace { folder: folder.to_owned(), fingerprint, seen: None };
        let state = folder.join(STATE);
        let start = match read_at_most(&state, MAX_STATE_BYTES) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => {
                workplace.check_empty()?;
                PrepareStart::Fresh
            }
            Err(error) => return Err(error.into()),
            Ok(bytes) => match serde_json::from_slice::<State>(&bytes) {
                Ok(left) if left.fingerprint != workplace.fingerprint => PrepareStart::Restarted,
                Ok(left) if left.is_ready => PrepareStart::Resumed,
                Ok(_) => PrepareStart::Fresh,
                Err(_) => PrepareStart::Restarted,
            },
        };
        if start == PrepareStart::Restarted {
            workplace.remove_shards()?;
        }
        if start != PrepareStart::Resumed {
            // Written first: a folder with this file is recognisable as a preparation's.
            workplace.write_state(&State::fresh(&workplace.fingerprint))?;
        }
        Ok((workplace, start))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn check_empty(&self) -> Result<(), PrepareError> {
        // Left by a program that was killed while writing its first state.
        remove_abandoned(&self.folder.join(STATE));
        let entries = fs::read_dir(&self.folder).map_err(FileError::new("read", &self.folder))?;
        for entry in entries {
            let path = entry.map_err(FileError::new("read", &self.folder))?.path();
            let found = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !is_lock_name(&found) {
                return Err(PrepareError::Occupied { path: self.folder.clone(), found });
            }
        }
        Ok(())
    }

    /// Removes the files of an interrupted preparation, recognised by their names.
    fn remove_shards(&self) -> Result<(), PrepareError> {
        let entries = fs::read_dir(&self.folder).map_err(FileError::new("read", &self.folder))?;
        for entry in entries {
            let path = entry.map_err(FileError::new("read", &self.folder))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if is_shard(name.trim_end_matches(".partial")) || name == SEEN || name == TOKENIZER {
                remove_file_if_exists(&path)?;
            }
        }
        Ok(())
    }

    /// The stored state, if it has this fingerprint.
    pub(super) fn read_state(&self) -> Result<Option<State>, PrepareError> {
        let path = self.folder.join(STATE);
        let state = serde_json::from_slice::<State>(&read_at_most(&path, MAX_STATE_BYTES)?).ok();
        Ok(state.filter(|state| state.is_ready && state.fingerprint == self.fingerprint))
    }

    pub(super) fn write_state(&self, state: &State) -> Result<(), PrepareError> {
        let json = serde_json::to_vec(state).expect("a state is plain values");
        Ok(replace_bytes(&self.folder.join(STATE), &json)?)
    }

    pub(super) fn write_tokenizer(&self, json: &str) -> Result<(), PrepareError> {
        Ok(replace_bytes(&self.folder.join(TOKENIZER), json.as_bytes())?)
    }

    pub(super) fn write_manifest(&self, manifest: &Manifest) -> Result<(), PrepareError> {
        let mut json = serde_json::to_vec_pretty(manifest).expect("a manifest is plain values");
        json.push(b'\n');
        Ok(replace_bytes(&self.folder.join(MANIFEST), &json)?)
    }

    /// Truncates the file of hashes to the first `n`, opens it for appending, and returns these.
    pub(super) fn resume_seen(&self, n: u64) -> Result<Vec<u128>, PrepareError> {
        let path = self.folder.join(SEEN);
        if n == 0 {
            remove_file_if_exists(&path)?;
            return Ok(Vec::new());
        }
        let file = reopen_unfinished(&path)?;
        let found = file.metadata().map_err(FileError::new("read", &path))?.len();
        if found / HASH_BYTES < n {
            let (expected, found) = (format!("{n} hashes"), format!("{}", found / HASH_BYTES));
            return Err(PrepareError::Left { path, expected, found });
        }
        file.set_len(n * HASH_BYTES).map_err(FileError::new("write", &path))?;
        let mut bytes = Vec::new();
        (&file).read_to_end(&mut bytes).map_err(FileError::new("read", &path))?;
        let hash = |bytes: &[u8]| bytes.iter().rev().fold(0u128, |hash, byte| hash << 8 | u128::from(*byte));
        Ok(bytes.chunks_exact(HASH_BYTES as usize).map(hash).collect())
    }

    /// Appends hashes of documents.
    pub(super) fn add_seen(&mut self, hashes: &[u128]) -> Result<(), PrepareError> {
        if hashes.is_empty() {
            return Ok(());
        }
        let path = self.folder.join(SEEN);
        let file = match self.seen.take() {
            Some(file) => file,
            None => BufWriter::new(open_log(&path)?),
        };
        let file = self.seen.insert(file);
        let written = hashes.iter().try_for_each(|hash| file.write_all(&hash.to_le_bytes()));
        Ok(written.map_err(FileError::new("write", &path))?)
    }

    pub(super) fn sync_seen(&mut self) -> Result<(), PrepareError> {
        let path = self.folder.join(SEEN);
        let Some(file) = &mut self.seen else { return Ok(()) };
        Ok(file.flush().and_then(|()| file.get_ref().sync_data()).map_err(FileError::new("write", &path))?)
    }

    /// Removes the files that only an unfinished preparation needs.
    pub(super) fn clear(folder: &Path) -> Result<(), PrepareError> {
        [SEEN, STATE].iter().try_for_each(|name| Ok(remove_file_if_exists(&folder.join(name))?))
    }
}

/// Whether a file name is that of a shard: `train-000000.bin`, `val.bin`.
fn is_shard(name: &str) -> bool {
    let Some(name) = name.strip_suffix(".bin") else { return false };
    let number = name.strip_prefix("train").or_else(|| name.strip_prefix("val"));
    number.is_some_and(|n| n.is_empty() || n.strip_prefix('-').is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit())))
}
