//! Products of a decoded chunk with rows of x: sums[row, lane] += Σ over the chunk.
//!
//! Each group of 16 or 32 elements is a sum of integers, which is exact and therefore the same on every instruction
//! set. It is multiplied by scale·d and added to the row's sum in f32, group after group: one order for any number of
//! rows. On AVX2 and AVX-512 the addition is fused.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod operands;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(super) use avx512::is_available as has_vnni;
pub(super) use operands::{Chunk, Operands};

use super::blocks::PANEL_ROWS;
use crate::isa::Isa;

/// Adds the products of a chunk with as many rows of x as there are sums.
///
/// # Panics
/// If x lacks these rows or the chunk's elements.
pub(super) fn add(isa: Isa, operands: &Operands<'_>, sums: &mut [[f32; PANEL_ROWS]]) {
    let Operands { groups, chunk, .. } = operands;
    let n_units = chunk.codes.len();
    assert!(
        n_units.is_multiple_of(8)
            && chunk.scales.len() == 4 * n_units / groups.len
            && (!groups.has_mins || chunk.mins.len() == chunk.scales.len()),
        "dot: {n_units} units, {} and {} groups of {}",
        chunk.scales.len(),
        chunk.mins.len(),
        groups.len
    );
    // SAFETY: an instruction set other than the portable one is that of a pool, which has checked that the machine has
    // it; the chunk has the groups of its units.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Bf16 if avx512::is_available() => avx512::add(operands, sums),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512 | Isa::Avx512Bf16 => avx2::add(operands, sums),
            _ => portable::add(operands, sums),
        }
    }
}
