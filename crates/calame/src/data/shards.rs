//! Shards of token ids: llm.c's, a header of 256 numbers and then the ids, and nanoGPT's, the ids alone.
//!
//! Numbers are little-endian. llm.c's header has a magic number, a version and the number of ids; ids of GPT-2 have 16 bits
//! (magic 20240520, version 1), those of larger vocabularies 32 (magic 20240801, version 7).
//!
//! Sources: karpathy/llm.c, `dev/data/data_common.py` (`write_datafile`) and `llmc/dataloader.h`; karpathy/nanoGPT,
//! `data/openwebtext/prepare.py`.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::shard_format::IdWidth;
use crate::files::{FileError, PositionedFile};

/// Magic number and version of the header, by the width of the ids.
const KINDS: [(u32, u32, IdWidth); 2] = [(20_240_520, 1, IdWidth::U16), (20_240_801, 7, IdWidth::U32)];
/// Length of llm.c's header.
pub(super) const HEADER_BYTES: u64 = 4 * 256;
/// Bytes that are read at a time, on the stack.
const PIECE_BYTES: usize = 1 << 13;

/// Why a shard cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// The system refused: not found, not allowed, shorter than it was.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file of another kind.
    #[error("{}: {key} is {found}: expected {expected}; tokenize the text again, by calame data prepare or with llm.c's dev/data scripts", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The place in the header.
        key: &'static str,
        /// What stands there.
        found: u32,
        /// What stands there in a shard.
        expected: &'static str,
    },
    /// More or fewer bytes than the header or the manifest speaks of.
    #[error("{}: {found} bytes, expected {expected}; the file is damaged or incomplete: copy or download it again", .path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// Bytes that it has.
        found: u64,
        /// Bytes that header and ids take.
        expected: u64,
    },
    /// An id that the tokenizer does not have.
    #[error("{}: token {at} has the id {id}, expected ids below {n_vocab}; the file is damaged or was made with another tokenizer: prepare or copy it again", .path.display())]
    UnknownId {
        /// The file.
        path: PathBuf,
        /// Which token of the file, from 0.
        at: usize,
        /// Its id.
        id: u32,
        /// Ids of the tokenizer.
        n_vocab: usize,
    },
}

/// The bytes that stand before the ids in llm.c's format.
pub(super) fn header(width: IdWidth, n_tokens: u32) -> [u8; HEADER_BYTES as usize] {
    let mut bytes = [0; HEADER_BYTES as usize];
    for (magic, version, _) in KINDS.iter().filter(|(_, _, of)| *of == width) {
        bytes[..4].copy_from_slice(&magic.to_le_bytes());
        bytes[4..8].copy_from_slice(&version.to_le_bytes());
    }
    bytes[8..12].copy_from_slice(&n_tokens.to_le_bytes());
    bytes
}

/// An open shard whose size is what its header says; only what is read takes memory.
#[derive(Debug)]
pub struct TokenShard {
    file: PositionedFile,
    width: IdWidth,
    /// Where the ids begin.
    start: u64,
    n_tokens: usize,
}

impl TokenShard {
    /// Opens a shard of llm.c's format.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn open(path: &Path) -> Result<TokenShard, ShardError> {
        let file = PositionedFile::open(path)?;
        let found = file.n_bytes();
        let size = |expected| ShardError::Size { path: path.to_owned(), found, expected };
        if found < HEADER_BYTES {
            return Err(size(HEADER_BYTES));
        }
        let mut bytes = [0; 12];
        file.read_exact(0, &mut bytes)?;
        let header = |i: usize| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
        let foreign = |key, found, expected| ShardError::Foreign { path: path.to_owned(), key, found, expected };
        let Some((_, version, width)) = KINDS.into_iter().find(|(magic, ..)| *magic == header(0)) else {
            let expected = "20240520 (ids of 16 bits) or 20240801 (32 bits)";
            return Err(foreign("the header's first number", header(0), expected));
        };
        if header(4) != version {
            let expected = if width == IdWidth::U16 { "1" } else { "7" };
            return Err(foreign("the header's version", header(4), expected));
        }
        let expected = HEADER_BYTES + width.n_bytes() * u64::from(header(8));
        if found != expected {
            return Err(size(expected));
        }
        Ok(TokenShard { file, width, start: HEADER_BYTES, n_tokens: header(8) as usize })
    }

    /// Opens a shard of nanoGPT's format, which is nothing but `n_tokens` ids.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn open_bare(path: &Path, width: IdWidth, n_tokens: u64) -> Result<TokenShard, ShardError> {
        let file = PositionedFile::open(path)?;
        let found = file.n_bytes();
        let expected = n_tokens.saturating_mul(width.n_bytes());
        if found != expected {
            return Err(ShardError::Size { path: path.to_owned(), found, expected });
        }
        // A file of that size exists, so that the number is far below 2⁶³.
        Ok(TokenShard { file, width, start: 0, n_tokens: n_tokens as usize })
    }

    /// The number of its ids.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// The bits of its ids.
    pub fn width(&self) -> IdWidth {
        self.width
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Reads the ids at `range` over all of `out`; allocates nothing.
    ///
    /// # Errors
    /// If the system refuses.
    ///
    /// # Panics
    /// If `range` is not in the shard, or `out` has not its length.
    pub fn read(&self, range: Range<usize>, out: &mut [u32]) -> Result<(), ShardError> {
        assert!(
            range.end <= self.n_tokens && range.len() == out.len() && range.start <= range.end,
            "TokenShard::read: {range:?} of {} tokens into {}",
            self.n_tokens,
            out.len()
        );
        let id_bytes = self.width.n_bytes();
        let mut at = self.start + id_bytes * range.start as u64;
        let mut piece = [0; PIECE_BYTES];
        for out in out.chunks_mut(PIECE_BYTES / id_bytes as usize) {
            let piece = &mut piece[..out.len() * id_bytes as usize];
            self.file.read_exact(at, piece)?;
            at += piece.len() as u64;
            match self.width {
                IdWidth::U16 => {
                    let ids = piece.chunks_exact(2).map(|id| u32::from(u16::from_le_bytes([id[0], id[1]])));
                    out.iter_mut().zip(ids).for_each(|(out, id)| *out = id);
                }
                IdWidth::U32 => {
                    let ids = piece.chunks_exact(4).map(|id| u32::from_le_bytes([id[0], id[1], id[2], id[3]]));
                    out.iter_mut().zip(ids).for_each(|(out, id)| *out = id);
                }
            }
        }
        Ok(())
    }
}
