//! The micro-kernels for AVX-512: 28 registers hold 14 × 32 sums, two a row of B, one an element of A. In bf16 each
//! lane holds a pair of terms, whose two products one instruction adds to the sum.

mod packing;

use std::arch::x86_64::*;

use super::kernels::{Kernels, Store};
use packing::lanes_mask;
pub(super) use packing::round_to_pairs;

const MR: usize = 14;
const NR: usize = 32;

pub(super) const F32: Kernels =
    Kernels { mr: MR, nr: NR, k_step: 1, b_group_units: 100_000, tile: tile_f32, packing: packing::F32, rounds: None };
pub(super) const BF16: Kernels = Kernels { k_step: 2, tile: tile_bf16, packing: packing::BF16, ..F32 };

/// Defines a micro-kernel whose innermost operation is `multiply_add(element, row, sum)`.
macro_rules! micro_kernel {
    ($tile:ident, $tile_of:ident, $features:literal, $multiply_add:expr) => {
        unsafe fn $tile(
            units: usize,
            a: *const f32,
            b: *const f32,
            c: *mut f32,
            row_stride: usize,
            rows: usize,
            cols: usize,
            store: Store,
        ) {
            // SAFETY: the caller's promises are passed on; `kernels_of` selects this kernel only if the machine has the
            // instructions.
            unsafe {
                match rows {
                    14 => $tile_of::<14>(units, a, b, c, row_stride, cols, store),
                    13 => $tile_of::<13>(units, a, b, c, row_stride, cols, store),
                    12 => $tile_of::<12>(units, a, b, c, row_stride, cols, store),
                    11 => $tile_of::<11>(units, a, b, c, row_stride, cols, store),
                    10 => $tile_of::<10>(units, a, b, c, row_stride, cols, store),
                    9 => $tile_of::<9>(units, a, b, c, row_stride, cols, store),
                    8 => $tile_of::<8>(units, a, b, c, row_stride, cols, store),
                    7 => $tile_of::<7>(units, a, b, c, row_stride, cols, store),
                    6 => $tile_of::<6>(units, a, b, c, row_stride, cols, store),
                    5 => $tile_of::<5>(units, a, b, c, row_stride, cols, store),
                    4 => $tile_of::<4>(units, a, b, c, row_stride, cols, store),
                    3 => $tile_of::<3>(units, a, b, c, row_stride, cols, store),
                    2 => $tile_of::<2>(units, a, b, c, row_stride, cols, store),
                    _ => $tile_of::<1>(units, a, b, c, row_stride, cols, store),
                }
            }
        }

        #[target_feature(enable = $features)]
        unsafe fn $tile_of<const M: usize>(
            units: usize,
            a: *const f32,
            b: *const f32,
            c: *mut f32,
            row_stride: usize,
            cols: usize,
            store: Store,
        ) {
            let mut sum = [[_mm512_setzero_ps(); 2]; M];
            // SAFETY: the panels hold [units][MR] and [units][NR]; the caller promises the tile of C.
            unsafe {
                for r in 0..M {
                    _mm_prefetch::<_MM_HINT_T0>(c.add(r * row_stride).cast());
                    _mm_prefetch::<_MM_HINT_T0>(c.add(r * row_stride).wrapping_add(NR - 1).cast());
                }
                let (mut a, mut b) = (a, b);
                for _ in 0..units {
                    let row = [_mm512_loadu_ps(b), _mm512_loadu_ps(b.add(16))];
                    for (r, sum) in sum.iter_mut().enumerate() {
                        let element = _mm512_set1_ps(*a.add(r));
                        sum[0] = $multiply_add(element, row[0], sum[0]);
                        sum[1] = $multiply_add(element, row[1], sum[1]);
                    }
                    a = a.add(MR);
                    b = b.add(NR);
                }
                write_tile(&sum, c, row_stride, cols, store);
            }
        }
    };
}

micro_kernel!(tile_f32, tile_f32_of, "avx512f", |element, row, sum| _mm512_fmadd_ps(element, row, sum));
micro_kernel!(tile_bf16, tile_bf16_of, "avx512f,avx512bf16", |element, row, sum| {
    _mm512_dpbf16_ps(sum, pairs(element), pairs(row))
});

/// Reinterprets sixteen lanes of four bytes as pairs of bf16.
#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn pairs(x: __m512) -> __m512bh {
    // SAFETY: both types are 64 bytes, and any bits are valid pairs of bf16.
    unsafe { std::mem::transmute(x) }
}

/// Writes the sums into C.
///
/// # Safety
/// Row r of the tile is `cols` writable elements at `c + r * row_stride`; the bias in `store` has `cols` elements.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn write_tile(sum: &[[__m512; 2]], c: *mut f32, row_stride: usize, cols: usize, store: Store) {
    let mask = [lanes_mask(cols.min(16)), lanes_mask(cols.saturating_sub(16))];
    for (r, sum) in sum.iter().enumerate() {
        for half in 0..2 {
            let m = mask[half];
            // SAFETY: masked lanes of C and of the bias are not accessed.
            unsafe {
                let c = c.add(r * row_stride).wrapping_add(half * 16);
                let value = match store {
                    Store::Overwrite => sum[half],
                    Store::Add => _mm512_add_ps(_mm512_maskz_loadu_ps(m, c), sum[half]),
                    Store::Bias(bias) => {
                        _mm512_add_ps(_mm512_maskz_loadu_ps(m, bias.wrapping_add(half * 16)), sum[half])
                    }
                };
                _mm512_mask_storeu_ps(c, m, value);
            }
        }
    }
}
