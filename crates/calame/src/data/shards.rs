//! Shards of token ids. llm.c's have a header of 256 numbers before the ids; nanoGPT's consist of ids only.
//!
//! Numbers are little-endian. llm.c's header contains a magic number, a version and the number of ids. Ids of GPT-2
//! have 16 bits (magic 20240520, version 1), those of larger vocabularies 32 (magic 20240801, version 7).
//!
//! Sources: karpathy/llm.c, `dev/data/data_common.py` (`write_datafile`) and `llmc/dataloader.h`; karpathy/nanoGPT,
//! `data/openwebtext/prepare.py`.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::shard_format::IdWidth;
use crate::files::{FileError, PositionedFile};

/// Magic number and version in the header, by width of the ids.
const KINDS: [(u32, u32, IdWidth); 2] = [(20_240_520, 1, IdWidth::U16), (20_240_801, 7, IdWidth::U32)];
/// Size of llm.c's header in bytes.
pub(super) const HEADER_BYTES: u64 = 4 * 256;
/// Bytes read at a time, on the stack, so that reading a sample allocates nothing: 8 KiB holds a whole sample of
/// 1,024 ids.
const PIECE_BYTES: usize = 1 << 13;

/// Why a shard cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// The file could not be opened or read, or is shorter than before.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file in another format.
    #[error("{}: {key} is {found}: expected {expected}; tokenize the text again, by calame data prepare or with llm.c's dev/data scripts", .path.display())]
    Foreign {
        /// Path of the file.
        path: PathBuf,
        /// The header's field that differs.
        key: &'static str,
        /// The number found in that field.
        found: u32,
        /// The numbers that a shard has there.
        expected: &'static str,
    },
    /// The file's size differs from what the header or the manifest says.
    #[error("{}: {found} bytes, expected {expected}; the file is damaged or incomplete: copy or download it again", .path.display())]
    Size {
        /// Path of the file.
        path: PathBuf,
        /// Size of the file in bytes.
        found: u64,
        /// Size of header and ids in bytes.
        expected: u64,
    },
    /// An id that is not in the tokenizer's vocabulary.
    #[error("{}: token {at} has the id {id}, expected ids below {n_vocab}; the file is damaged or was made with another tokenizer: prepare or copy it again", .path.display())]
    UnknownId {
        /// Path of the file.
        path: PathBuf,
        /// Index of the token in the file, from 0.
        at: usize,
        /// The id found there.
        id: u32,
        /// Number of ids in the vocabulary.
        n_vocab: usize,
    },
}

/// The header that precedes the ids in llm.c's format.
pub(super) fn header(width: IdWidth, n_tokens: u32) -> [u8; HEADER_BYTES as usize] {
    let mut bytes = [0; HEADER_BYTES as usize];
    for (magic, version, _) in KINDS.iter().filter(|(_, _, of)| *of == width) {
        bytes[..4].copy_from_slice(&magic.to_le_bytes());
        bytes[4..8].copy_from_slice(&version.to_le_bytes());
    }
    bytes[8..12].copy_from_slice(&n_tokens.to_le_bytes());
    bytes
}

/// An open shard, whose size has been compared with its header. Only the ids being read take memory.
#[derive(Debug)]
pub struct TokenShard {
    file: PositionedFile,
    width: IdWidth,
    /// Byte offset of the first id.
    start: u64,
    n_tokens: usize,
}

impl TokenShard {
    /// Opens a shard in llm.c's format.
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

    /// Opens a shard in nanoGPT's format, which consists of `n_tokens` ids only.
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
        // A file of that size exists, so the number is far below 2⁶³.
        Ok(TokenShard { file, width, start: 0, n_tokens: n_tokens as usize })
    }

    /// Number of token ids in the shard.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Number of bits per id.
    pub fn width(&self) -> IdWidth {
        self.width
    }

    /// Path of the file, for messages.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Reads the ids at `range` into `out`, overwriting it; allocates nothing.
    ///
    /// # Errors
    /// If the system refuses to read the file.
    ///
    /// # Panics
    /// If `range` exceeds the shard, or its length differs from that of `out`.
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
