//! Writes the shards of one split, one after another.

use std::fs::{self, File};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::super::manifest::ShardEntry;
use super::super::shard_format::{IdWidth, ShardFormat, Split};
use super::super::shards::{HEADER_BYTES, header};
use super::error::PrepareError;
use super::options::PrepareOptions;
use crate::files::{FileError, rename_synced, reopen_unfinished, restart_unfinished, sha256_of_file};

/// Writes the token ids of a split into shards of equal length. A shard is named `NAME.bin.partial` while it is
/// written. When it is full its header is written, the file is synced, read again for its checksum, and renamed.
pub(super) struct ShardWriter {
    folder: PathBuf,
    split: Split,
    format: ShardFormat,
    width: IdWidth,
    shard_tokens: u64,
    shards: Vec<ShardEntry>,
    begun: Option<BufWriter<File>>,
    n_begun: u64,
    bytes: Vec<u8>,
}

impl ShardWriter {
    /// Resumes after complete `shards` and an unfinished one of `n_begun` tokens; anything written after those
    /// is cut off.
    pub(super) fn resume(
        folder: &Path,
        split: Split,
        options: &PrepareOptions,
        width: IdWidth,
        shards: Vec<ShardEntry>,
        n_begun: u64,
    ) -> Result<ShardWriter, PrepareError> {
        let shard_tokens = match options.format {
            ShardFormat::Llmc => options.shard_tokens,
            ShardFormat::Nanogpt => u64::MAX,
        };
        let mut writer = ShardWriter {
            folder: folder.to_owned(),
            split,
            format: options.format,
            width,
            shard_tokens,
            shards,
            begun: None,
            n_begun: 0,
            bytes: Vec::new(),
        };
        for shard in &writer.shards {
            let path = folder.join(&shard.file);
            let found = fs::metadata(&path).map_err(FileError::new("read", &path))?.len();
            writer.check_length(&path, found, shard.n_tokens)?;
        }
        if n_begun > 0 {
            writer.reopen(n_begun)?;
        }
        Ok(writer)
    }

    /// The complete shards, in order.
    pub(super) fn shards(&self) -> &[ShardEntry] {
        &self.shards
    }

    /// Number of tokens in the unfinished shard.
    pub(super) fn n_begun(&self) -> u64 {
        self.n_begun
    }

    /// Number of tokens in all shards.
    pub(super) fn n_tokens(&self) -> u64 {
        self.n_begun + self.shards.iter().map(|shard| shard.n_tokens).sum::<u64>()
    }

    /// Appends ids, closing shards as they fill up.
    pub(super) fn push(&mut self, mut ids: &[u32]) -> Result<(), PrepareError> {
        while !ids.is_empty() {
            let n_left = self.shard_tokens - self.n_begun;
            let (now, later) = ids.split_at(usize::try_from(n_left).unwrap_or(usize::MAX).min(ids.len()));
            self.write(now)?;
            if self.n_begun == self.shard_tokens {
                self.close()?;
            }
            ids = later;
        }
        Ok(())
    }

    /// Flushes everything written so far to the disk.
    pub(super) fn sync(&mut self) -> Result<(), PrepareError> {
        let partial = self.partial();
        let Some(file) = &mut self.begun else { return Ok(()) };
        Ok(file.flush().and_then(|()| file.get_ref().sync_data()).map_err(FileError::new("write", &partial))?)
    }

    /// Closes the last shard and returns all shards.
    pub(super) fn finish(mut self) -> Result<Vec<ShardEntry>, PrepareError> {
        if self.n_begun > 0 {
            self.close()?;
        }
        Ok(self.shards)
    }

    fn name(&self) -> String {
        match self.format {
            ShardFormat::Llmc => format!("{}-{:06}.bin", self.split.name(), self.shards.len()),
            ShardFormat::Nanogpt => format!("{}.bin", self.split.name()),
        }
    }

    fn partial(&self) -> PathBuf {
        self.folder.join(format!("{}.partial", self.name()))
    }

    fn header_bytes(&self) -> u64 {
        if self.format == ShardFormat::Llmc { HEADER_BYTES } else { 0 }
    }

    fn write(&mut self, ids: &[u32]) -> Result<(), PrepareError> {
        let partial = self.partial();
        if self.begun.is_none() {
            let file = restart_unfinished(&partial)?;
            let mut file = BufWriter::with_capacity(1 << 20, file);
            // Reserves the header; the number of tokens is known at the end.
            let place = vec![0; self.header_bytes() as usize];
            file.write_all(&place).map_err(FileError::new("write", &partial))?;
            self.begun = Some(file);
        }
        self.bytes.clear();
        match self.width {
            // The width was chosen for the vocabulary, so every id fits.
            IdWidth::U16 => self.bytes.extend(ids.iter().flat_map(|&id| (id as u16).to_le_bytes())),
            IdWidth::U32 => self.bytes.extend(ids.iter().flat_map(|id| id.to_le_bytes())),
        }
        if let Some(file) = &mut self.begun {
            file.write_all(&self.bytes).map_err(FileError::new("write", &partial))?;
        }
        self.n_begun += ids.len() as u64;
        Ok(())
    }

    fn close(&mut self) -> Result<(), PrepareError> {
        let (name, partial) = (self.name(), self.partial());
        let Some(mut file) = self.begun.take() else { return Ok(()) };
        let failed = |error| FileError::new("write", &partial)(error);
        if self.format == ShardFormat::Llmc {
            // `PrepareOptions::validate` limits it to 2³¹ − 1.
            let header = header(self.width, self.n_begun as u32);
            file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&header)).map_err(failed)?;
        }
        file.flush().and_then(|()| file.get_ref().sync_all()).map_err(failed)?;
        drop(file);
        let sha256 = sha256_of_file(&partial, &mut |_| {})?;
        rename_synced(&partial, &self.folder.join(&name))?;
        self.shards.push(ShardEntry { file: name, split: self.split, n_tokens: self.n_begun, sha256 });
        self.n_begun = 0;
        Ok(())
    }

    /// Reopens the unfinished shard and truncates it to the recorded length.
    fn reopen(&mut self, n_begun: u64) -> Result<(), PrepareError> {
        let (partial, path) = (self.partial(), self.folder.join(self.name()));
        if !partial.exists() && path.exists() {
            // The shard was completed after the last recorded state.
            rename_synced(&path, &partial)?;
        }
        let file = reopen_unfinished(&partial)?;
        let length = self.header_bytes() + n_begun * self.width.n_bytes();
        let found = file.metadata().map_err(FileError::new("read", &partial))?.len();
        if found < length {
            let (expected, found) = (format!("at least {length} bytes"), found.to_string());
            return Err(PrepareError::Left { path: partial, expected, found });
        }
        file.set_len(length).map_err(FileError::new("write", &partial))?;
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.seek(SeekFrom::End(0)).map_err(FileError::new("write", &partial))?;
        self.begun = Some(file);
        self.n_begun = n_begun;
        Ok(())
    }

    fn check_length(&self, path: &Path, found: u64, n_tokens: u64) -> Result<(), PrepareError> {
        let expected = self.header_bytes() + n_tokens.saturating_mul(self.width.n_bytes());
        if found == expected {
            return Ok(());
        }
        let (expected, found) = (format!("{expected} bytes"), found.to_string());
        Err(PrepareError::Left { path: path.to_owned(), expected, found })
    }
}
