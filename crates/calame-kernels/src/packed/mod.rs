//! Weights of inference: matrices [OC, C] that are laid out once, in the order in which products read them.
//!
//! A matrix is divided into panels of consecutive rows (output columns of the product y = x·Wᵀ), each contiguous in
//! memory. Decoding one token reads every weight once; a panel is read from its first byte to its last.
//!
//! - f32, f16 and bf16 ([`floats`]): a panel has as many rows as the micro-kernel's tile has columns, and holds one term
//!   of k after another, as the panels of [`crate::gemm`] do. Products are those of `gemm`, with the same order of sums;
//!   up to [`few::MAX_ROWS`] rows are computed without copying anything.
//! - Formats of blocks ([`blocks`]): a panel has sixteen rows, whose blocks are interleaved in units of the same place.
//!   A vector of 64 bytes thus has four consecutive elements of each row, and sums need no reduction across lanes. The
//!   rows of x are quantized to int8, products of blocks are sums of integers, which are exact ([`dot`]).
//!
//! The memory is that of the format's file: panels are a permutation of its bytes, except that Q8_0's codes are stored
//! with their highest bit inverted, as unsigned numbers. The last panel is filled up with zeros.

mod activations;
mod blocks;
mod chunk;
mod codes;
mod dot;
pub(crate) mod few;
mod floats;
mod fused;
mod product;
mod raw;
mod shape;

pub use product::packed_product;
pub use shape::PackedShape;

use std::ops::Range;

use crate::aligned::AlignedVec;
use crate::disjoint_mut::DisjointMut;
use crate::formats::NumberFormat;
use crate::gemm::MatRef;
use crate::isa::Isa;
use crate::pool::Pool;
use crate::rows::check_rows;
use crate::sizes::has_dims;
use crate::split::for_rows;

/// A matrix [OC, C] in the layout of an instruction set; read by [`packed_product`] and [`packed_embedding`].
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    shape: PackedShape,
    data: AlignedVec,
}

impl PackedShape {
    /// The layout of a matrix [rows, cols] for kernels of `isa`.
    ///
    /// # Panics
    /// If a row is not a whole number of the format's blocks, or the matrix is larger than any memory.
    pub fn new(isa: Isa, format: NumberFormat, rows: usize, cols: usize) -> PackedShape {
        let shape = PackedShape { isa, format, rows, cols };
        assert!(
            cols.is_multiple_of(format.block_len()) && shape.checked_len().is_some(),
            "PackedShape: [{rows}, {cols}] in {format}"
        );
        shape
    }

    /// Memory of the matrix in bytes.
    pub fn n_bytes(&self) -> u64 {
        self.checked_len().map_or(u64::MAX, |n| 4 * n as u64)
    }

    /// Rows of a panel; the last panel may have fewer.
    pub fn panel_rows(&self) -> usize {
        if self.is_blocks() { blocks::PANEL_ROWS } else { floats::panel_rows(self) }
    }

    /// Panels of the matrix, the last of which may have fewer rows.
    pub fn n_panels(&self) -> usize {
        self.rows.div_ceil(self.panel_rows())
    }

    /// The rows of panel `j`.
    pub fn rows_of(&self, j: usize) -> Range<usize> {
        let n = self.panel_rows();
        (j * n).min(self.rows)..(j * n).saturating_add(n).min(self.rows)
    }

    /// Length of a panel in units of four bytes.
    fn panel_len(&self) -> usize {
        if self.is_blocks() { blocks::panel_len(self) } else { floats::panel_len(self) }
    }

    fn checked_len(&self) -> Option<usize> {
        // A row takes at most four bytes an element, and at most a unit of two terms more.
        self.cols.checked_add(1)?.checked_mul(self.panel_rows())?.checked_mul(4)?;
        let len = self.panel_len().checked_mul(self.n_panels())?;
        len.checked_mul(4).is_some_and(|bytes| isize::try_from(bytes).is_ok()).then_some(len)
    }

    /// Writes a panel from the elements of its rows, which are rounded to the format; any strides.
    ///
    /// # Panics
    /// If the panel or the rows are not those of a panel of this matrix, or the format is one of blocks.
    pub fn write_panel(&self, panel: &mut [f32], rows: MatRef<'_>) {
        self.check_panel(panel.len(), rows.rows(), rows.cols());
        assert!(!self.is_blocks(), "write_panel: {} has blocks", self.format);
        floats::write_panel(self, panel, rows);
    }

    /// Writes a panel from the bytes of its rows in the format, as a file stores them.
    ///
    /// # Panics
    /// If the panel or the bytes are not those of a panel of this matrix.
    pub fn write_panel_raw(&self, panel: &mut [f32], bytes: &[u8]) {
        let row_bytes = self.row_bytes();
        let n_rows = bytes.len().checked_div(row_bytes).unwrap_or(0);
        assert!(n_rows * row_bytes == bytes.len(), "write_panel_raw: {} bytes in rows of {row_bytes}", bytes.len());
        self.check_panel(panel.len(), n_rows, self.cols);
        if self.is_blocks() {
            return blocks::write_panel(self, panel, bytes);
        }
        let mut elements = vec![0.0; n_rows * self.cols];
        crate::formats::dequantize(self.format, bytes, &mut elements);
        floats::write_panel(self, panel, MatRef::dense(&elements, n_rows, self.cols));
    }

    fn check_panel(&self, len: usize, rows: usize, cols: usize) {
        assert!(
            len == self.panel_len() && rows > 0 && rows <= self.panel_rows() && cols == self.cols,
            "a panel of {len} units from rows [{rows}, {cols}], expected {} from [{}, {}]",
            self.panel_len(),
            self.panel_rows(),
            self.cols
        );
    }
}

impl PackedMatrix {
    /// A matrix of zeros.
    pub fn zeros(shape: PackedShape) -> PackedMatrix {
        PackedMatrix { shape, data: AlignedVec::zeros(shape.panel_len() * shape.n_panels()) }
    }

    /// Number format and size.
    pub fn shape(&self) -> &PackedShape {
        &self.shape
    }

    /// Runs `write(j, panel)` for every panel, on all threads; see [`PackedShape::write_panel`] and
    /// [`PackedShape::write_panel_raw`].
    pub fn for_panels(&mut self, pool: &Pool, write: impl Fn(usize, &mut [f32]) + Sync) {
        let len = self.shape.panel_len();
        let data = DisjointMut::new(&mut self.data);
        pool.run(self.shape.n_panels(), |j| {
            // SAFETY: each task has a panel of its own.
            write(j, unsafe { data.part(j * len, (j + 1) * len) });
        });
    }

    /// The elements of a row, overwriting `out`: to the bit those of the format's definition.
    ///
    /// # Panics
    /// If there is no such row, or `out` has another length.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        let PackedShape { rows, cols, .. } = self.shape;
        assert!(row < rows && out.len() == cols, "row {row} of [{rows}, {cols}] into {} elements", out.len());
        let (panel, lane) = (self.panel(row / self.shape.panel_rows()), row % self.shape.panel_rows());
        if self.shape.is_blocks() {
            blocks::read_row(&self.shape, panel, lane, out);
        } else {
            floats::read_row(&self.shape, panel, lane, out);
        }
    }

    /// Whether every element is a finite number.
    pub fn is_finite(&self) -> bool {
        let is_finite = |panel| {
            if self.shape.is_blocks() {
                blocks::is_finite(&self.shape, panel)
            } else {
                floats::is_finite(&self.shape, panel)
            }
        };
        (0..self.shape.n_panels()).all(|j| is_finite(self.panel(j)))
    }

    pub(crate) fn panel(&self, j: usize) -> &[f32] {
        let len = self.shape.panel_len();
        &self.data[j * len..(j + 1) * len]
    }

    /// Whether panels are stored as the micro-kernels read them.
    pub(crate) fn is_direct(&self) -> bool {
        floats::is_direct(&self.shape)
    }

    /// Terms `pc..pc + kc` of panel `j` as f32, [kc, nr], where panels are not stored so.
    pub(crate) fn widen(&self, j: usize, pc: usize, kc: usize, out: &mut [f32]) {
        floats::widen(&self.shape, self.panel(j), pc, kc, out);
    }
}

/// As [`crate::embedding_forward`] with a packed table of tokens: y row = `wte[token] + wpe[position]`.
///
/// # Panics
/// If the sizes do not agree, or an index is outside its table.
pub fn packed_embedding(
    pool: &Pool,
    tokens: &[u32],
    positions: &[u32],
    wte: &PackedMatrix,
    wpe: &[f32],
    y: &mut [f32],
) {
    let PackedShape { rows, cols, .. } = *wte.shape();
    assert!(tokens.len() == positions.len() && has_dims(y.len(), [tokens.len(), cols]), "packed_embedding: sizes");
    check_rows("packed_embedding: positions", wpe.len(), cols, positions);
    if let Some(token) = tokens.iter().find(|&&token| token as usize >= rows) {
        panic!("packed_embedding: token {token} of {rows}");
    }
    for_rows(pool, y, cols, |first, y| {
        let places = tokens[first..].iter().zip(&positions[first..]);
        for ((&token, &position), y) in places.zip(y.chunks_exact_mut(cols)) {
            wte.row(token as usize, y);
            let position = &wpe[position as usize * cols..][..cols];
            y.iter_mut().zip(position).for_each(|(y, p)| *y += p);
        }
    });
}
