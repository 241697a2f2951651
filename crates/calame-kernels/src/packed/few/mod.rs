//! Products of a few rows with a panel of f32, f16 or bf16: the panel is read once, as it is stored.
//!
//! The order of sums is that of the micro-kernels of [`crate::gemm`]: one accumulator for each element, over the terms
//! of a block of k.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod instance;
mod portable;

use half::f16;

use instance::Few;

use crate::formats::NumberFormat;
use crate::isa::{Isa, multiversion};

/// Most rows that are computed in this way.
pub(crate) const MAX_ROWS: usize = 4;

/// The kernel for `n_rows` rows, from 1 to [`MAX_ROWS`].
///
/// # Panics
/// If the format has blocks.
pub(crate) fn kernel(isa: Isa, format: NumberFormat, n_rows: usize) -> Few {
    #[cfg(target_arch = "x86_64")]
    match isa {
        Isa::Avx512Bf16 if format == NumberFormat::Bf16 => return avx512::pairs(n_rows),
        Isa::Avx512 | Isa::Avx512Bf16 => return avx512::kernel(format, n_rows),
        Isa::Avx2 => return avx2::kernel(format, n_rows),
        Isa::Portable => {}
    }
    portable::kernel(format, n_rows)
}

/// Converts f16 to f32.
pub(super) fn widen_f16(isa: Isa, from: &[u16], to: &mut [f32]) {
    assert_eq!(from.len(), to.len(), "widen: lengths");
    match isa {
        // SAFETY: the instruction set is that of a pool, which has checked that the machine has it.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512 | Isa::Avx512Bf16 => unsafe { avx2::widen_f16(from, to) },
        _ => to.iter_mut().zip(from).for_each(|(to, &bits)| *to = f16::from_bits(bits).to_f32()),
    }
}

multiversion! {
    /// Converts bf16 to f32.
    pub(super) fn widen_bf16(from: &[u16], to: &mut [f32]) = widen_bf16_body;
}

#[inline(always)]
fn widen_bf16_body(from: &[u16], to: &mut [f32]) {
    to.iter_mut().zip(from).for_each(|(to, &bits)| *to = f32::from_bits(u32::from(bits) << 16));
}
