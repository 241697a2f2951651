//! Selects the micro-kernel for an instruction set and a precision.

use super::kernels::Kernels;
use crate::isa::Isa;
use crate::precision::Precision;

/// The kernels of an instruction set for a precision.
///
/// If the instruction set does not multiply bf16, operands are rounded to bf16 and multiplied as f32. This is no faster
/// than f32, and sums may differ in their last bits from those of an instruction set that does.
pub(crate) fn kernels_of(isa: Isa, precision: Precision) -> Kernels {
    let kernels = match (isa, precision) {
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512Bf16, Precision::Bf16) => return super::avx512::BF16,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512 | Isa::Avx512Bf16, _) => super::avx512::F32,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, _) => super::avx2::KERNELS,
        _ => super::portable::KERNELS,
    };
    Kernels { rounds: (precision == Precision::Bf16).then_some(isa), ..kernels }
}
