//! The micro-kernels for AVX-512: 14 × 32 sums in 28 registers, two for the row of B, one for the element of A. In bf16
//! each lane holds a pair of terms, whose two products one instruction adds to the sum.

use std::arch::x86_64::*;

use super::kernels::{Kernels, Packing, Source, Store};
use super::portable::gather;
use crate::precision::rounded_to_bf16;

const MR: usize = 14;
const NR: usize = 32;

pub(super) const F32: Kernels = Kernels {
    mr: MR,
    nr: NR,
    k_step: 1,
    tile: tile_f32,
    packing: Packing { copy: copy_f32, turn: turn_f32, turn_lanes: 16, gather },
    rounds: None,
};
pub(super) const BF16: Kernels = Kernels {
    mr: MR,
    nr: NR,
    k_step: 2,
    tile: tile_bf16,
    packing: Packing { copy: copy_bf16, turn: turn_bf16, turn_lanes: 16, gather: gather_bf16 },
    rounds: None,
};

/// A micro-kernel whose innermost operation is `multiply_add(element, row, sum)`.
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
            // SAFETY: the caller's promises are passed on; `Kernels::of` gives this kernel only where the machine has
            // the instructions.
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
            // SAFETY: the panels hold [units][MR] and [units][NR]; C is the caller's.
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

/// Sixteen lanes of four bytes as pairs of bf16.
#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn pairs(x: __m512) -> __m512bh {
    // SAFETY: both are 64 bytes, and any bits are pairs of bf16.
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
            // SAFETY: masked lanes of C and of the bias are not touched.
            unsafe {
                let c = c.add(r * row_stride).wrapping_add(half * 16);
                let value = match store {
                    Store::Overwrite => sum[half],
                    Store::Add => _mm512_add_ps(_mm512_maskz_loadu_ps(m, c), sum[half]),
                    Store::AddTo(bias) => {
                        _mm512_add_ps(_mm512_maskz_loadu_ps(m, bias.wrapping_add(half * 16)), sum[half])
                    }
                };
                _mm512_mask_storeu_ps(c, m, value);
            }
        }
    }
}

fn lanes_mask(lanes: usize) -> __mmask16 {
    ((1u32 << lanes) - 1) as __mmask16
}

unsafe fn copy_f32(panel: *mut f32, panel_stride: usize, width: usize, source: Source) {
    // SAFETY: the caller's promises are passed on; `Kernels::of` gives this only where the machine has the instructions.
    unsafe { copy_lanes(panel, panel_stride, width, source) }
}

unsafe fn turn_f32(panel: *mut f32, panel_stride: usize, width: usize, source: Source) {
    // SAFETY: as in `copy_f32`.
    unsafe { turn_lanes(panel, panel_stride, width, source) }
}

unsafe fn copy_bf16(panel: *mut f32, panel_stride: usize, width: usize, source: Source) {
    // SAFETY: as in `copy_f32`.
    unsafe { copy_pairs(panel, panel_stride, width, source) }
}

unsafe fn turn_bf16(panel: *mut f32, panel_stride: usize, width: usize, source: Source) {
    // SAFETY: as in `copy_f32`.
    unsafe { turn_pairs(panel, panel_stride, width, source) }
}

#[target_feature(enable = "avx512f")]
unsafe fn copy_lanes(panel: *mut f32, panel_stride: usize, width: usize, source: Source) {
    let Source { at, k_stride, lanes, kc, .. } = source;
    for lane in (0..width).step_by(16) {
        let read = lanes_mask(lanes.saturating_sub(lane).min(16));
        let write = lanes_mask((width - lane).min(16));
        for k in 0..kc {
            // SAFETY: masked lanes are neither read nor written; the others are inside matrix and panel.
            unsafe {
                let row = _mm512_maskz_loadu_ps(read, at.wrapping_add(k * k_stride + lane));
                _mm512_mask_storeu_ps(panel.add(k * panel_stride + lane), write, row);
            }
        }
    }
}

/// Tiles of 16 lanes × 16 terms are turned in registers.
#[target_feature(enable = "avx512f")]
unsafe fn turn_lanes(panel: *mut f32, panel_stride: usize, width: usize, source: Source) {
    let Source { at, lane_stride, lanes, kc, .. } = source;
    let write = lanes_mask(width);
    for k in (0..kc).step_by(16) {
        let terms = (kc - k).min(16);
        let read = lanes_mask(terms);
        let mut rows = [_mm512_setzero_ps(); 16];
        for (lane, row) in rows.iter_mut().enumerate().take(lanes) {
            // SAFETY: terms beyond the block are masked.
            *row = unsafe { _mm512_maskz_loadu_ps(read, at.wrapping_add(lane * lane_stride + k)) };
        }
        for (t, row) in transpose(rows).iter().enumerate().take(terms) {
            // SAFETY: lanes beyond the panel's width are masked.
            unsafe { _mm512_mask_storeu_ps(panel.add((k + t) * panel_stride), write, *row) };
        }
    }
}

/// Two terms of a lane to a unit, rounded to the nearest bf16: the rows of terms 2u and 2u + 1 are interleaved.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn copy_pairs(panel: *mut f32, panel_stride: usize, width: usize, source: Source) {
    let Source { at, k_stride, lanes, kc, .. } = source;
    let mut interleave = [0u16; 32];
    for lane in 0..16 {
        interleave[2 * lane] = lane as u16;
        interleave[2 * lane + 1] = 16 + lane as u16;
    }
    // SAFETY: 64 bytes.
    let interleave = unsafe { _mm512_loadu_si512(interleave.as_ptr().cast()) };
    for lane in (0..width).step_by(16) {
        let read = lanes_mask(lanes.saturating_sub(lane).min(16));
        let write = lanes_mask((width - lane).min(16));
        for unit in 0..kc.div_ceil(2) {
            let second = if 2 * unit + 1 < kc { read } else { 0 };
            // SAFETY: masked lanes are neither read nor written; the others are inside matrix and panel.
            unsafe {
                let at = at.wrapping_add(2 * unit * k_stride + lane);
                let low = _mm512_maskz_loadu_ps(read, at);
                let high = _mm512_maskz_loadu_ps(second, at.wrapping_add(k_stride));
                let both: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(high, low));
                let units = _mm512_castsi512_ps(_mm512_permutexvar_epi16(interleave, both));
                _mm512_mask_storeu_ps(panel.add(unit * panel_stride + lane), write, units);
            }
        }
    }
}

/// The same for lanes whose terms stand side by side: tiles of 16 lanes × 32 terms are turned in registers.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn turn_pairs(panel: *mut f32, panel_stride: usize, width: usize, source: Source) {
    let Source { at, lane_stride, lanes, kc, .. } = source;
    let write = lanes_mask(width);
    for k in (0..kc).step_by(32) {
        let read = [lanes_mask((kc - k).min(16)), lanes_mask((kc - k).saturating_sub(16).min(16))];
        let mut rows = [_mm512_setzero_ps(); 16];
        for (lane, row) in rows.iter_mut().enumerate().take(lanes) {
            // SAFETY: terms beyond the block are masked; both types are 64 bytes.
            *row = unsafe {
                let at = at.wrapping_add(lane * lane_stride + k);
                let low = _mm512_maskz_loadu_ps(read[0], at);
                let high = _mm512_maskz_loadu_ps(read[1], at.wrapping_add(16));
                std::mem::transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(high, low))
            };
        }
        for (u, row) in transpose(rows).iter().enumerate().take((kc - k).div_ceil(2)) {
            // SAFETY: lanes beyond the panel's width are masked.
            unsafe { _mm512_mask_storeu_ps(panel.add((k / 2 + u) * panel_stride), write, *row) };
        }
    }
}

/// The same for lanes and terms that stand anywhere.
unsafe fn gather_bf16(panel: *mut f32, panel_stride: usize, width: usize, source: Source) {
    let Source { at, lane_stride, k_stride, lanes, kc } = source;
    for unit in 0..kc.div_ceil(2) {
        for lane in 0..width {
            let term = |k: usize| {
                let inside = lane < lanes && k < kc;
                // SAFETY: lane and term are inside the matrix.
                let x = if inside { unsafe { *at.add(lane * lane_stride + k * k_stride) } } else { 0.0 };
                rounded_to_bf16(x).to_bits() >> 16
            };
            let pair = f32::from_bits(term(2 * unit) | term(2 * unit + 1) << 16);
            // SAFETY: inside the panel.
            unsafe { *panel.add(unit * panel_stride + lane) = pair };
        }
    }
}

/// The transpose of a 16 × 16 matrix in registers.
#[target_feature(enable = "avx512f")]
fn transpose(r: [__m512; 16]) -> [__m512; 16] {
    let mut pairs = r;
    for i in 0..8 {
        pairs[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    // quads[4g + t]: term t (of each 128-bit lane's four) of the rows 4g..4g+4
    let mut quads = r;
    for g in 0..4 {
        let p = |i: usize| _mm512_castps_pd(pairs[4 * g + i]);
        quads[4 * g] = _mm512_castpd_ps(_mm512_unpacklo_pd(p(0), p(2)));
        quads[4 * g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(p(0), p(2)));
        quads[4 * g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(p(1), p(3)));
        quads[4 * g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(p(1), p(3)));
    }
    let mut out = r;
    for t in 0..4 {
        let even_low = _mm512_shuffle_f32x4::<0x88>(quads[t], quads[4 + t]);
        let odd_low = _mm512_shuffle_f32x4::<0xdd>(quads[t], quads[4 + t]);
        let even_high = _mm512_shuffle_f32x4::<0x88>(quads[8 + t], quads[12 + t]);
        let odd_high = _mm512_shuffle_f32x4::<0xdd>(quads[8 + t], quads[12 + t]);
        out[t] = _mm512_shuffle_f32x4::<0x88>(even_low, even_high);
        out[8 + t] = _mm512_shuffle_f32x4::<0xdd>(even_low, even_high);
        out[4 + t] = _mm512_shuffle_f32x4::<0x88>(odd_low, odd_high);
        out[12 + t] = _mm512_shuffle_f32x4::<0xdd>(odd_low, odd_high);
    }
    out
}
