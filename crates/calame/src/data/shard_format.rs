//! The properties of a file of token ids: its format, the width of an id, the part of the text.

use serde::{Deserialize, Serialize};

/// Whose format the shards have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShardFormat {
    /// llm.c's: a header of 1,024 bytes, then the ids.
    #[default]
    Llmc,
    /// nanoGPT's: the ids alone, one file for each part.
    Nanogpt,
}

/// Bits of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdWidth {
    /// 16.
    U16,
    /// 32.
    U32,
}

impl IdWidth {
    /// The narrowest that holds all ids of a vocabulary.
    pub fn of_vocabulary(n_vocab: usize) -> IdWidth {
        if n_vocab <= 1 << 16 { IdWidth::U16 } else { IdWidth::U32 }
    }

    /// Bytes of an id.
    pub fn n_bytes(self) -> u64 {
        match self {
            IdWidth::U16 => 2,
            IdWidth::U32 => 4,
        }
    }
}

/// Which part of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// What is trained on.
    Train,
    /// What is for validation.
    Val,
}

impl Part {
    /// As it stands in file names.
    pub fn name(self) -> &'static str {
        match self {
            Part::Train => "train",
            Part::Val => "val",
        }
    }
}
