//! Products of a few rows of x with a panel of blocks that are decoded in registers.
//!
//! Decoding a token reads every weight once: the memory is the bound, and storing decoded codes only to load them again
//! takes longer than the products. A panel is read from its first byte to its last; its sums stay in registers.
//!
//! Every format is decoded by the same code for AVX-512 and AVX2 ([`format`](self::format)); [`Lanes`](lanes::Lanes) has
//! the instructions. The order of sums is that of [`super::dot`], so that the results are the same bits.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod format;
#[cfg(target_arch = "x86_64")]
mod k;
#[cfg(target_arch = "x86_64")]
mod lanes;
mod operands;
#[cfg(target_arch = "x86_64")]
mod product;
#[cfg(target_arch = "x86_64")]
mod ternary;

pub(super) use operands::{Fused, Operands};

use crate::formats::NumberFormat;
use crate::isa::Isa;

/// Most rows that are computed in this way.
pub(super) const MAX_ROWS: usize = 4;

/// The kernel for `n_rows` rows, from 1 to [`MAX_ROWS`]; `None` where the instruction set has none.
pub(super) fn kernel(isa: Isa, format: NumberFormat, n_rows: usize) -> Option<Fused> {
    #[cfg(target_arch = "x86_64")]
    match isa {
        Isa::Avx512 | Isa::Avx512Bf16 if super::dot::has_vnni() => return avx512::kernel(format, n_rows),
        Isa::Avx2 | Isa::Avx512 | Isa::Avx512Bf16 => return avx2::kernel(format, n_rows),
        Isa::Portable => {}
    }
    let _ = (isa, format, n_rows);
    None
}
