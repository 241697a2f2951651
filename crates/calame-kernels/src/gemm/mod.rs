//! Matrix products: C = init + A·B with sums in f32. All products of the crate are computed here.
//!
//! The algorithm is Goto's (K. Goto and R. van de Geijn, "Anatomy of high-performance matrix multiplication", 2008).
//! Operands are copied ("packed") into panels, which the micro-kernel reads sequentially while it keeps one tile of C
//! in registers. A few panels of B stay in the second-level cache while panels of A are streamed. Operands that are
//! multiplied as bf16 are rounded while they are packed.
//!
//! On x86 the kernels are written here, because no maintained crate offers bf16, epilogues and one order of sums for any
//! number of rows; they reach 194 to 207 of a peak of 235 GFLOP/s on two threads at the model's shapes (LOG.md). Other
//! processors run the portable kernel.
//!
//! **Order of sums.** k is divided into blocks by [`kernels::Kernels::k_block`], which depends only on k, the
//! instruction set and the precision. An element of C is its initial value plus, block after block, the sum of the
//! block, which runs over k in order with one accumulator (in bf16 one instruction adds two terms). The value of an
//! element therefore depends neither on the number of rows and columns, nor on the threads, nor on the schedule
//! (`plan.rs`).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod epilogue;
mod init;
mod kernels;
mod plan;
mod portable;
mod right;
mod select;
pub(crate) mod serial;
mod view;

pub use epilogue::Epilogue;
pub(crate) use epilogue::SharedEpilogue;
pub use init::Init;
pub(crate) use kernels::{Kernels, Store};
pub(crate) use plan::Out;
pub(crate) use select::kernels_of;
pub use view::{MatMut, MatRef};

use crate::isa::Isa;
use crate::packed::PackedMatrix;
use crate::pool::Pool;
use crate::precision::Precision;
use crate::workspace_size::WorkspaceSize;
use right::Right;

/// The work space that a product [m, k] · [k, n] needs.
pub fn gemm_workspace_size(isa: Isa, precision: Precision, m: usize, k: usize, n: usize) -> WorkspaceSize {
    plan::workspace_size(&kernels_of(isa, precision), m, k, n)
}

/// Computes C = init + A·B, where A is [m, k], B is [k, n] and C is [m, n].
///
/// # Panics
/// If the sizes do not agree.
pub fn gemm(pool: &Pool, precision: Precision, a: MatRef<'_>, b: MatRef<'_>, c: MatMut<'_>, init: Init<'_>) {
    gemm_then(pool, precision, a, b, c, init, Epilogue::None);
}

/// As [`gemm`], and applies `epilogue` to each part of C while it is still in the cache.
///
/// # Panics
/// If the sizes do not agree, or if C has gaps between its rows and `epilogue` is not [`Epilogue::None`].
pub fn gemm_then(
    pool: &Pool,
    precision: Precision,
    a: MatRef<'_>,
    b: MatRef<'_>,
    c: MatMut<'_>,
    init: Init<'_>,
    epilogue: Epilogue<'_>,
) {
    assert!(
        a.cols == b.rows && a.rows == c.rows && b.cols == c.cols,
        "gemm: A [{}, {}] times B [{}, {}] into C [{}, {}]",
        a.rows,
        a.cols,
        b.rows,
        b.cols,
        c.rows,
        c.cols
    );
    if let Init::Bias(bias) | Init::AddBias(bias) = init {
        assert_eq!(bias.len(), c.cols, "gemm: elements of the bias and columns of C");
    }
    epilogue.check(&c);
    if c.rows == 0 || c.cols == 0 {
        return;
    }
    plan::run(pool, kernels_of(pool.isa(), precision), a, Right::Strided(b), c, init, epilogue);
}

/// As [`gemm_then`] with the transpose of a packed matrix; the caller has checked the sizes.
pub(crate) fn packed(
    pool: &Pool,
    kernels: Kernels,
    a: MatRef<'_>,
    w: &PackedMatrix,
    c: MatMut<'_>,
    init: Init<'_>,
    epilogue: Epilogue<'_>,
) {
    plan::run(pool, kernels, a, Right::Packed(w), c, init, epilogue);
}

/// Rounds a row to pairs of bf16, as the kernels for `isa` do.
///
/// # Panics
/// If the instruction set does not multiply pairs of bf16.
pub(crate) fn round_to_pairs(isa: Isa, x: &[f32], pairs: &mut [f32]) {
    match isa {
        // SAFETY: the instruction set is that of a pool, which has checked that the machine has it.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Bf16 => unsafe { avx512::round_to_pairs(x, pairs) },
        _ => panic!("round_to_pairs: {isa} multiplies no pairs of bf16, {} elements, {}", x.len(), pairs.len()),
    }
}
