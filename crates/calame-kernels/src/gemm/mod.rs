//! Matrix products: C = init + A·B with f32 sums, the one place where they happen.
//!
//! The plan is Goto's (K. Goto and R. van de Geijn, "Anatomy of high-performance matrix multiplication", 2008): operands
//! are copied ("packed") into panels that the innermost kernel reads front to back, and that kernel keeps one tile of C in
//! registers. A panel of B with the columns it needs stays in the second-level cache while panels of A pass by. Operands
//! that are to be multiplied as bf16 become bf16 while they are packed.
//!
//! **Order of sums.** k is cut into blocks by [`kernels::Kernels::k_block`], which depends on k alone (and on the instruction set
//! and the precision). An element of C is the start value plus, block after block, the block's sum, which runs over k in
//! order with one accumulator (in bf16 one instruction adds two terms). So an element's value depends on neither the number of rows and columns around it, nor the
//! threads, nor which of the two schedules in `plan.rs` ran.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod epilogue;
mod init;
mod kernels;
mod plan;
mod portable;
mod select;
pub(crate) mod serial;
mod view;

pub use epilogue::Epilogue;
pub use init::Init;
pub use view::{MatMut, MatRef};

use crate::isa::Isa;
use crate::pool::Pool;
use crate::precision::Precision;
use crate::workspace_size::WorkspaceSize;
use select::kernels_of;

/// The work space of a product [m, k] · [k, n].
pub fn gemm_workspace_size(isa: Isa, precision: Precision, m: usize, k: usize, n: usize) -> WorkspaceSize {
    plan::workspace_size(&kernels_of(isa, precision), m, k, n)
}

/// C = init + A·B. A is [m, k], B is [k, n], C is [m, n].
///
/// # Panics
/// If the sizes do not agree.
pub fn gemm(pool: &Pool, precision: Precision, a: MatRef<'_>, b: MatRef<'_>, c: MatMut<'_>, init: Init<'_>) {
    gemm_then(pool, precision, a, b, c, init, Epilogue::None);
}

/// As [`gemm`]; then `epilogue` is done to each part of C while it is still in the cache.
///
/// # Panics
/// If the sizes do not agree; if C has gaps and `epilogue` is not [`Epilogue::None`].
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
    plan::run(pool, kernels_of(pool.isa(), precision), a, b, c, init, epilogue);
}
