//! The right operand of a product.

use super::kernels::Kernels;
use super::view::MatRef;
use crate::packed::PackedMatrix;

/// The right operand B [k, n].
#[derive(Clone, Copy)]
pub(super) enum Right<'a> {
    /// A matrix whose panels are packed by each product.
    Strided(MatRef<'a>),
    /// The transpose of a matrix that has been packed for this instruction set.
    Packed(&'a PackedMatrix),
}

impl<'a> Right<'a> {
    /// Whether panels need not be packed.
    pub fn is_ready(&self) -> bool {
        matches!(self, Right::Packed(matrix) if matrix.is_direct())
    }

    /// Terms `pc..pc + kc` of panel `j`, if it need not be packed.
    pub fn panel(&self, kernels: &Kernels, j: usize, pc: usize, kc: usize) -> Option<&'a [f32]> {
        match self {
            Right::Packed(matrix) if matrix.is_direct() => {
                let (first, units) = (pc / kernels.k_step, kernels.units(kc));
                Some(&matrix.panel(j)[first * kernels.nr..(first + units) * kernels.nr])
            }
            _ => None,
        }
    }

    /// Packs terms `pc..pc + kc` of panel `j` into `panel` [units, nr].
    pub fn pack(&self, kernels: &Kernels, panel: &mut [f32], j: usize, pc: usize, kc: usize) {
        match self {
            Right::Strided(b) => kernels.pack_cols(panel, b, j, pc, kc),
            Right::Packed(matrix) => matrix.widen(j, pc, kc, panel),
        }
    }
}
