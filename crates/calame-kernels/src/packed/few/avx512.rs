//! By AVX-512: 32 columns in two registers a row.

use std::arch::x86_64::*;

use super::instance::{Few, by_rows};
use crate::formats::NumberFormat;

/// Columns of the tile of AVX-512.
const NR: usize = 32;
/// Cache lines of a panel that are loaded ahead of the products: the processor's own prefetching ends at every 4 kB.
const AHEAD: usize = 64;

pub(super) fn kernel(format: NumberFormat, n_rows: usize) -> Few {
    match format {
        NumberFormat::F32 => by_rows!(few_f32, n_rows),
        NumberFormat::F16 => by_rows!(few_f16, n_rows),
        NumberFormat::Bf16 => by_rows!(few_bf16, n_rows),
        other => panic!("few: {other} has blocks"),
    }
}

/// The kernel for pairs of bf16.
pub(super) fn pairs(n_rows: usize) -> Few {
    by_rows!(few_pairs, n_rows)
}

/// Defines a kernel whose `load(unit)` returns the two vectors of a unit of so many cache lines, and whose innermost
/// operation is `multiply_add(x, vector, sum)`.
macro_rules! few {
    ($name:ident, $features:literal, $unit_lines:literal, $load:ident, $multiply_add:expr) => {
        #[target_feature(enable = $features)]
        unsafe fn $name<const M: usize>(
            units: usize,
            x: *const f32,
            x_stride: usize,
            panel: *const f32,
            panel_stride: usize,
            sums: *mut f32,
        ) {
            let mut total = [[_mm512_setzero_ps(); 2]; M];
            // SAFETY: the rows have `units` units, the panel [units, NR] with units `panel_stride` apart, and the sums are
            // [M, NR].
            unsafe {
                for k in 0..units {
                    for line in 0..$unit_lines {
                        let ahead = panel.wrapping_add((k + AHEAD / $unit_lines) * panel_stride + 16 * line);
                        _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                    }
                    let term = $load(panel.add(k * panel_stride));
                    for (r, total) in total.iter_mut().enumerate() {
                        let x = _mm512_set1_ps(*x.add(r * x_stride + k));
                        total[0] = $multiply_add(x, term[0], total[0]);
                        total[1] = $multiply_add(x, term[1], total[1]);
                    }
                }
                for (r, total) in total.iter().enumerate() {
                    _mm512_storeu_ps(sums.add(r * NR), total[0]);
                    _mm512_storeu_ps(sums.add(r * NR + 16), total[1]);
                }
            }
        }
    };
}

few!(few_f32, "avx512f", 2, load_f32, |x, term, sum| _mm512_fmadd_ps(x, term, sum));
few!(few_f16, "avx512f", 1, load_f16, |x, term, sum| _mm512_fmadd_ps(x, term, sum));
few!(few_bf16, "avx512f", 1, load_bf16, |x, term, sum| _mm512_fmadd_ps(x, term, sum));
few!(few_pairs, "avx512f,avx512bf16", 2, load_f32, |x, term, sum| {
    _mm512_dpbf16_ps(sum, as_pairs(x), as_pairs(term))
});

/// Reinterprets sixteen lanes of four bytes as pairs of bf16.
#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn as_pairs(x: __m512) -> __m512bh {
    // SAFETY: both types are 64 bytes, and any bits are valid pairs of bf16.
    unsafe { std::mem::transmute(x) }
}

#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn load_f32(unit: *const f32) -> [__m512; 2] {
    // SAFETY: the caller's panel has the unit.
    unsafe { [_mm512_loadu_ps(unit), _mm512_loadu_ps(unit.add(16))] }
}

#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn load_f16(unit: *const f32) -> [__m512; 2] {
    let at: *const __m256i = unit.cast();
    // SAFETY: the caller's panel has the unit.
    unsafe { [0, 1].map(|half| _mm512_cvtph_ps(_mm256_loadu_si256(at.add(half)))) }
}

#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn load_bf16(unit: *const f32) -> [__m512; 2] {
    let at: *const __m256i = unit.cast();
    // SAFETY: the caller's panel has the unit.
    let bits = unsafe { [0, 1].map(|half| _mm512_cvtepu16_epi32(_mm256_loadu_si256(at.add(half)))) };
    bits.map(|bits| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits)))
}
