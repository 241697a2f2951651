//! The tokens of a split as one sequence of ids, read from its shards by position.

use std::ops::Range;
use std::path::Path;

use super::manifest::Manifest;
use super::shard_format::{ShardFormat, Split};
use super::shards::{ShardError, TokenShard};

/// The shards of a split in order. Only the ids being read take memory.
#[derive(Debug)]
pub struct ShardSet {
    shards: Vec<TokenShard>,
    /// Number of tokens before each shard, and at the end their total.
    starts: Vec<usize>,
    n_vocab: usize,
}

impl ShardSet {
    /// Opens the shards of a split in a prepared folder. Their sizes are compared with the manifest; their
    /// checksums are not (see [`Manifest::verify`]).
    ///
    /// # Errors
    /// Names the shard and what is wrong with it.
    pub fn open(folder: &Path, manifest: &Manifest, split: Split) -> Result<ShardSet, ShardError> {
        let mut shards = Vec::new();
        for entry in manifest.shards.iter().filter(|entry| entry.split == split) {
            let path = folder.join(&entry.file);
            let shard = match manifest.format {
                ShardFormat::Nanogpt => TokenShard::open_bare(&path, manifest.width(), entry.n_tokens)?,
                ShardFormat::Llmc => TokenShard::open(&path)?,
            };
            if shard.n_tokens() as u64 != entry.n_tokens || shard.width() != manifest.width() {
                let size = |n_tokens: u64, n_bytes: u64| {
                    super::shards::HEADER_BYTES.saturating_add(n_tokens.saturating_mul(n_bytes))
                };
                let found = size(shard.n_tokens() as u64, shard.width().n_bytes());
                return Err(ShardError::Size { path, found, expected: size(entry.n_tokens, manifest.id_bytes) });
            }
            shards.push(shard);
        }
        Ok(ShardSet::new(shards, manifest.tokenizer.vocab_size))
    }

    /// A set of these shards in this order, for a tokenizer of `n_vocab` ids.
    pub fn new(shards: Vec<TokenShard>, n_vocab: usize) -> ShardSet {
        let mut starts = vec![0];
        for shard in &shards {
            // Each exists on disk, so the sum is far below 2⁶³.
            starts.push(starts[starts.len() - 1] + shard.n_tokens());
        }
        ShardSet { shards, starts, n_vocab }
    }

    /// Total number of tokens in the shards.
    pub fn n_tokens(&self) -> usize {
        self.starts[self.shards.len()]
    }

    /// Reads the ids at `range` into `out`, overwriting it; allocates nothing.
    ///
    /// # Errors
    /// If a file can no longer be read, or contains an id that the tokenizer does not have.
    ///
    /// # Panics
    /// If `range` exceeds the tokens, or its length differs from that of `out`.
    pub fn read(&self, range: Range<usize>, out: &mut [u32]) -> Result<(), ShardError> {
        assert!(
            range.start <= range.end && range.end <= self.n_tokens() && range.len() == out.len(),
            "ShardSet::read: {range:?} of {} tokens into {}",
            self.n_tokens(),
            out.len()
        );
        let mut done = 0;
        let mut i = self.starts.partition_point(|&start| start <= range.start).saturating_sub(1);
        while done < out.len() {
            let shard = &self.shards[i];
            let start = range.start + done - self.starts[i];
            let n = (shard.n_tokens() - start).min(out.len() - done);
            let ids = &mut out[done..done + n];
            shard.read(start..start + n, ids)?;
            if let Some(at) = ids.iter().position(|&id| id as usize >= self.n_vocab) {
                let (path, id, n_vocab) = (shard.path().to_owned(), ids[at], self.n_vocab);
                return Err(ShardError::UnknownId { path, at: start + at, id, n_vocab });
            }
            done += n;
            i += 1;
        }
        Ok(())
    }
}
