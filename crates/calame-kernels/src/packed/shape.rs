//! What determines the layout of a packed matrix.

use crate::formats::NumberFormat;
use crate::isa::Isa;

/// Number format and size of a packed matrix, which determine its layout on an instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedShape {
    pub(super) isa: Isa,
    pub(super) format: NumberFormat,
    pub(super) rows: usize,
    pub(super) cols: usize,
}

impl PackedShape {
    /// How an element is stored.
    pub fn format(&self) -> NumberFormat {
        self.format
    }

    /// OC, the number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// C, the number of elements of a row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Whether the format divides rows into blocks of several elements.
    pub(super) fn is_blocks(&self) -> bool {
        self.format.block_len() > 1
    }

    /// Size of a row in bytes, as a file stores it.
    pub fn row_bytes(&self) -> usize {
        self.cols / self.format.block_len() * self.format.block_bytes()
    }
}
