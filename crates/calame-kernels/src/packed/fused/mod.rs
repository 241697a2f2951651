//! Products of a few rows of x with a panel of blocks that are decoded in registers.
//!
//! Decoding a token reads every weight once: the memory is the bound, and storing decoded codes only to load them again
//! takes longer than the products. The sums of a panel stay in registers.
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

use operands::Fused;
pub(super) use operands::PanelOperands;

use super::blocks::PANEL_ROWS;
use super::codes::groups;
use crate::formats::NumberFormat;
use crate::isa::Isa;

/// Most rows that are computed in this way. The panel is decoded once for every eight of them, from the caches: with many
/// rows it is faster to store what was decoded, unless there is nothing to decode.
pub(super) fn max_rows(format: NumberFormat) -> usize {
    if format == NumberFormat::Q8_0 { usize::MAX } else { 32 }
}

/// Rows of a kernel, in descending order.
const KERNEL_ROWS: [usize; 5] = [8, 4, 3, 2, 1];

/// Overwrites the sums of as many rows of x as there are sums. Returns false, and does nothing, where the instruction set has
/// no kernels.
///
/// # Panics
/// If x lacks these rows, or the panel is not one of the format.
pub(super) fn multiply(
    isa: Isa,
    format: NumberFormat,
    operands: &PanelOperands<'_>,
    sums: &mut [[f32; PANEL_ROWS]],
) -> bool {
    let PanelOperands { panel, cols, x, .. } = *operands;
    assert!(
        cols.is_multiple_of(format.block_len())
            && panel.len() == cols / format.block_len() * format.block_bytes() * PANEL_ROWS
            && x.len == cols
            && x.n_groups == cols / groups(format).len,
        "fused: a panel of {} bytes with rows of {cols} in {format}, x of {} in {} groups",
        panel.len(),
        x.len,
        x.n_groups
    );
    let mut first = 0;
    while first < sums.len() {
        let n = KERNEL_ROWS.into_iter().find(|n| *n <= sums.len() - first).unwrap_or(1);
        let Some(kernel) = kernel(isa, format, n) else { return false };
        let operands = &PanelOperands { first_row: operands.first_row + first, ..*operands };
        // SAFETY: the machine has the instruction set, as the pool has checked; the panel has sixteen rows of the format, and
        // x its groups.
        unsafe { kernel(operands, &mut sums[first..first + n]) };
        first += n;
    }
    true
}

/// The kernel for `n_rows` rows, one of [`KERNEL_ROWS`]; `None` where the instruction set has none.
fn kernel(isa: Isa, format: NumberFormat, n_rows: usize) -> Option<Fused> {
    #[cfg(target_arch = "x86_64")]
    match isa {
        Isa::Avx512 | Isa::Avx512Bf16 if super::dot::has_vnni() => return avx512::kernel(format, n_rows),
        Isa::Avx2 | Isa::Avx512 | Isa::Avx512Bf16 => return avx2::kernel(format, n_rows),
        Isa::Portable => {}
    }
    let _ = (isa, format, n_rows);
    None
}
