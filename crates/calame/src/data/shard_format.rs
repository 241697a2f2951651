//! Properties of a token file: its format, the width of an id, its split.

use serde::{Deserialize, Serialize};

/// File format of the shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShardFormat {
    /// llm.c's format: a header of 1,024 bytes, then the ids.
    #[default]
    Llmc,
    /// nanoGPT's format: only the ids, one file per split.
    Nanogpt,
}

/// Number of bits per token id in a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdWidth {
    /// 16 bits per id, little-endian.
    U16,
    /// 32 bits per id, little-endian.
    U32,
}

impl IdWidth {
    /// The narrowest width that holds all ids of a vocabulary.
    pub fn of_vocabulary(n_vocab: usize) -> IdWidth {
        if n_vocab <= 1 << 16 { IdWidth::U16 } else { IdWidth::U32 }
    }

    /// Number of bytes per id: 2 or 4.
    pub fn n_bytes(self) -> u64 {
        match self {
            IdWidth::U16 => 2,
            IdWidth::U32 => 4,
        }
    }
}

/// A division of the text: training or validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// The text that the model is trained on.
    Train,
    /// The text held out for validation.
    Val,
}

impl Split {
    /// The split's name in file names: `train` or `val`.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Val => "val",
        }
    }
}
