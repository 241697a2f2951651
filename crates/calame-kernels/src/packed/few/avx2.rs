//! By AVX2: sixteen columns in two registers a row.

use std::arch::x86_64::*;

use half::f16;

use super::instance::{Few, by_rows};
use crate::formats::NumberFormat;

/// Columns of the tile of AVX2.
const NR: usize = 16;

pub(super) fn kernel(format: NumberFormat, n_rows: usize) -> Few {
    match format {
        NumberFormat::F32 => by_rows!(few_f32, n_rows),
        NumberFormat::F16 => by_rows!(few_f16, n_rows),
        NumberFormat::Bf16 => by_rows!(few_bf16, n_rows),
        other => panic!("few: {other} has blocks"),
    }
}

/// Defines a kernel whose `load(term)` returns the two vectors of a term.
macro_rules! few {
    ($name:ident, $load:ident) => {
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn $name<const M: usize>(
            units: usize,
            x: *const f32,
            x_stride: usize,
            panel: *const f32,
            panel_stride: usize,
            sums: *mut f32,
        ) {
            let mut total = [[_mm256_setzero_ps(); 2]; M];
            // SAFETY: the rows have `units` terms, the panel [units, NR] with units `panel_stride` apart, and the sums are
            // [M, NR].
            unsafe {
                for k in 0..units {
                    let term = $load(panel.add(k * panel_stride));
                    for (r, total) in total.iter_mut().enumerate() {
                        let x = _mm256_set1_ps(*x.add(r * x_stride + k));
                        total[0] = _mm256_fmadd_ps(x, term[0], total[0]);
                        total[1] = _mm256_fmadd_ps(x, term[1], total[1]);
                    }
                }
                for (r, total) in total.iter().enumerate() {
                    _mm256_storeu_ps(sums.add(r * NR), total[0]);
                    _mm256_storeu_ps(sums.add(r * NR + 8), total[1]);
                }
            }
        }
    };
}

few!(few_f32, load_f32);
few!(few_f16, load_f16);
few!(few_bf16, load_bf16);

#[target_feature(enable = "avx2")]
#[inline]
unsafe fn load_f32(term: *const f32) -> [__m256; 2] {
    // SAFETY: the caller's panel has the term.
    unsafe { [_mm256_loadu_ps(term), _mm256_loadu_ps(term.add(8))] }
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
unsafe fn load_f16(term: *const f32) -> [__m256; 2] {
    let at: *const __m128i = term.cast();
    // SAFETY: the caller's panel has the term.
    unsafe { [0, 1].map(|half| _mm256_cvtph_ps(_mm_loadu_si128(at.add(half)))) }
}

#[target_feature(enable = "avx2")]
#[inline]
unsafe fn load_bf16(term: *const f32) -> [__m256; 2] {
    let at: *const __m128i = term.cast();
    // SAFETY: the caller's panel has the term.
    let bits = unsafe { [0, 1].map(|half| _mm256_cvtepu16_epi32(_mm_loadu_si128(at.add(half)))) };
    bits.map(|bits| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits)))
}

/// Converts f16 to f32.
///
/// # Safety
/// The processor has F16C; `to` has as many elements as `from`.
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn widen_f16(from: &[u16], to: &mut [f32]) {
    let ((from, from_rest), (to, to_rest)) = (from.as_chunks::<8>(), to.as_chunks_mut::<8>());
    for (from, to) in from.iter().zip(to) {
        // SAFETY: both arrays have eight elements.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast()))) };
    }
    to_rest.iter_mut().zip(from_rest).for_each(|(to, &bits)| *to = f16::from_bits(bits).to_f32());
}
