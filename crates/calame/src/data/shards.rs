//! Shards of token ids as llm.c writes them (`fineweb_train_000001.bin`): a header of 256 numbers, then u16 ids.
//!
//! Source: karpathy/llm.c, `dev/data/data_common.py` (`write_datafile`) and `llmc/dataloader.h`.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The first number of the header, and the version of GPT-2's ids.
const MAGIC: u32 = 20_240_520;
const VERSION: u32 = 1;
const HEADER_BYTES: u64 = 4 * 256;
/// Ids that are read at a time.
const PIECE_TOKENS: usize = 1 << 16;

/// Why a shard cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// The system refused: not found, not allowed, shorter than it was.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of another kind.
    #[error("{}: {key} is {found}: expected {expected}; tokenize the text again with llm.c's dev/data scripts for GPT-2", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The place in the header.
        key: &'static str,
        /// What stands there.
        found: u32,
        /// What stands there in a shard.
        expected: u32,
    },
    /// More or fewer bytes than the header speaks of.
    #[error("{}: {found} bytes, expected {expected}; the file is damaged or incomplete: copy or download it again", .path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// Bytes that it has.
        found: u64,
        /// Bytes that header and ids take.
        expected: u64,
    },
}

/// An open shard whose size is what its header says; only what is read takes memory.
#[derive(Debug)]
pub struct TokenShard {
    path: PathBuf,
    file: File,
    n_tokens: usize,
}

impl TokenShard {
    /// Opens a shard.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn open(path: &Path) -> Result<TokenShard, ShardError> {
        let mut file = File::open(path).map_err(io_error("open", path))?;
        let found = file.metadata().map_err(io_error("read", path))?.len();
        let size = |expected| ShardError::Size { path: path.to_owned(), found, expected };
        if found < HEADER_BYTES {
            return Err(size(HEADER_BYTES));
        }
        let mut bytes = [0; 12];
        file.read_exact(&mut bytes).map_err(io_error("read", path))?;
        let header = |i: usize| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
        for (i, key, expected) in [(0, "the header's first number", MAGIC), (4, "the header's version", VERSION)] {
            if header(i) != expected {
                return Err(ShardError::Foreign { path: path.to_owned(), key, found: header(i), expected });
            }
        }
        let n_tokens = header(8);
        let expected = HEADER_BYTES + 2 * u64::from(n_tokens);
        if found != expected {
            return Err(size(expected));
        }
        Ok(TokenShard { path: path.to_owned(), file, n_tokens: n_tokens as usize })
    }

    /// The number of its ids.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Reads the ids at `range` over all of `out`.
    ///
    /// # Errors
    /// If the system refuses.
    ///
    /// # Panics
    /// If `range` is not in the shard, or `out` has not its length.
    pub fn read(&mut self, range: Range<usize>, out: &mut [u32]) -> Result<(), ShardError> {
        assert!(
            range.end <= self.n_tokens && range.len() == out.len() && range.start <= range.end,
            "TokenShard::read: {range:?} of {} tokens into {}",
            self.n_tokens,
            out.len()
        );
        let at = HEADER_BYTES + 2 * range.start as u64;
        self.file.seek(SeekFrom::Start(at)).map_err(io_error("read", &self.path))?;
        let mut piece = vec![0; 2 * out.len().min(PIECE_TOKENS)];
        for out in out.chunks_mut(PIECE_TOKENS) {
            let piece = &mut piece[..2 * out.len()];
            self.file.read_exact(piece).map_err(io_error("read", &self.path))?;
            for (id, bytes) in out.iter_mut().zip(piece.chunks_exact(2)) {
                *id = u32::from(u16::from_le_bytes([bytes[0], bytes[1]]));
            }
        }
        Ok(())
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ShardError {
    let path = path.to_owned();
    move |source| ShardError::Io { action, path, source }
}
