//! The micro-kernel for AVX2 and FMA: twelve registers hold 6 × 16 sums, two a row of B, one an element of A.

use std::arch::x86_64::*;

use super::kernels::{Kernels, Packing, PanelSource, Store};
use super::portable::gather;

const MR: usize = 6;
const NR: usize = 16;

/// Terms per iteration of the loop over k.
///
/// A term takes 20 instructions in the six cycles of its multiplications, and loop overhead three more. On a core that
/// runs two threads, instruction throughput is the limit: unrolling gains 5 per cent.
const UNROLL: usize = 4;

const PACKING: Packing = Packing { copy, transpose, max_lanes: 8, gather };

pub(super) const KERNELS: Kernels =
    Kernels { mr: MR, nr: NR, k_step: 1, b_group_units: 50_000, tile, packing: PACKING, rounds: None };

unsafe fn tile(
    kc: usize,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    row_stride: usize,
    rows: usize,
    cols: usize,
    store: Store,
) {
    // SAFETY: the caller's promises are passed on; `kernels_of` selects this kernel only if the machine has AVX2.
    unsafe {
        match rows {
            6 => tile_of::<6>(kc, a, b, c, row_stride, cols, store),
            5 => tile_of::<5>(kc, a, b, c, row_stride, cols, store),
            4 => tile_of::<4>(kc, a, b, c, row_stride, cols, store),
            3 => tile_of::<3>(kc, a, b, c, row_stride, cols, store),
            2 => tile_of::<2>(kc, a, b, c, row_stride, cols, store),
            _ => tile_of::<1>(kc, a, b, c, row_stride, cols, store),
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn tile_of<const M: usize>(
    kc: usize,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    row_stride: usize,
    cols: usize,
    store: Store,
) {
    let mut sum = [[_mm256_setzero_ps(); 2]; M];
    // SAFETY: the panels hold [kc][MR] and [kc][NR]; whole rows of C are accessed only if the tile has all columns.
    unsafe {
        for r in 0..M {
            _mm_prefetch::<_MM_HINT_T0>(c.add(r * row_stride).cast());
            _mm_prefetch::<_MM_HINT_T0>(c.add(r * row_stride).wrapping_add(NR - 1).cast());
        }
        let (mut a, mut b) = (a, b);
        for _ in 0..kc / UNROLL {
            for u in 0..UNROLL {
                add_term(a.add(u * MR), b.add(u * NR), &mut sum);
            }
            a = a.add(UNROLL * MR);
            b = b.add(UNROLL * NR);
        }
        for u in 0..kc % UNROLL {
            add_term(a.add(u * MR), b.add(u * NR), &mut sum);
        }
        if cols < NR {
            let mut values = [[0.0f32; NR]; M];
            for (values, sum) in values.iter_mut().zip(&sum) {
                _mm256_storeu_ps(values.as_mut_ptr(), sum[0]);
                _mm256_storeu_ps(values.as_mut_ptr().add(8), sum[1]);
            }
            return super::portable::write_tile(&values, c, row_stride, M, cols, store);
        }
        for (r, sum) in sum.iter().enumerate() {
            for (half, &sum) in sum.iter().enumerate() {
                let c = c.add(r * row_stride + half * 8);
                let value = match store {
                    Store::Overwrite => sum,
                    Store::Add => _mm256_add_ps(_mm256_loadu_ps(c), sum),
                    Store::Bias(bias) => _mm256_add_ps(_mm256_loadu_ps(bias.add(half * 8)), sum),
                };
                _mm256_storeu_ps(c, value);
            }
        }
    }
}

/// Adds one term of k to the sums.
///
/// # Safety
/// `a` points to M elements, `b` to NR.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn add_term<const M: usize>(a: *const f32, b: *const f32, sum: &mut [[__m256; 2]; M]) {
    // SAFETY: promised by the caller.
    unsafe {
        let row = [_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8))];
        for (r, sum) in sum.iter_mut().enumerate() {
            let element = _mm256_set1_ps(*a.add(r));
            sum[0] = _mm256_fmadd_ps(element, row[0], sum[0]);
            sum[1] = _mm256_fmadd_ps(element, row[1], sum[1]);
        }
    }
}

unsafe fn copy(panel: *mut f32, panel_stride: usize, width: usize, source: PanelSource) {
    // SAFETY: the caller's promises are passed on; `kernels_of` selects this function only if the machine has AVX2.
    unsafe { copy_lanes(panel, panel_stride, width, source) }
}

unsafe fn transpose(panel: *mut f32, panel_stride: usize, width: usize, source: PanelSource) {
    // SAFETY: as in `copy`.
    unsafe {
        match source.lanes {
            8 => transpose_lanes::<8>(panel, panel_stride, width, source),
            MR => transpose_lanes::<MR>(panel, panel_stride, width, source),
            _ => transpose_some_lanes(panel, panel_stride, width, source),
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn copy_lanes(panel: *mut f32, panel_stride: usize, width: usize, source: PanelSource) {
    let PanelSource { at, k_stride, lanes, kc, .. } = source;
    for lane in (0..width).step_by(8) {
        let read = lanes_mask(lanes.saturating_sub(lane).min(8));
        for k in 0..kc {
            // SAFETY: masked lanes are not read; the others are inside the matrix.
            unsafe {
                let row = _mm256_maskload_ps(at.wrapping_add(k * k_stride + lane), read);
                write_row(panel.add(lane), panel_stride, width - lane, k, kc, row);
            }
        }
    }
}

/// Writes up to eight lanes of row k of a panel of kc rows.
///
/// On Zen a masked store costs about as much as twenty whole ones. A narrow row is therefore stored as a whole vector
/// if the excess falls into rows that are written afterwards.
///
/// # Safety
/// The panel holds `width` lanes of each of the kc rows, `panel_stride` apart, and the rows are written in
/// ascending order.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn write_row(panel: *mut f32, panel_stride: usize, width: usize, k: usize, kc: usize, row: __m256) {
    let may_overrun = width == panel_stride && k + 8usize.div_ceil(width) <= kc;
    // SAFETY: the row has eight lanes, or the next rows of the panel follow it, or the other lanes are masked.
    unsafe {
        let to = panel.add(k * panel_stride);
        if width >= 8 || may_overrun {
            _mm256_storeu_ps(to, row);
        } else {
            _mm256_maskstore_ps(to, lanes_mask(width), row);
        }
    }
}

#[target_feature(enable = "avx2")]
fn lanes_mask(lanes: usize) -> __m256i {
    let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes as i32), lane)
}

/// Transposes tiles of L lanes × 8 terms in registers.
///
/// The number of lanes is a constant: otherwise the compiler moves the tile through memory.
#[target_feature(enable = "avx2,fma")]
unsafe fn transpose_lanes<const L: usize>(panel: *mut f32, panel_stride: usize, width: usize, source: PanelSource) {
    let PanelSource { at, lane_stride, kc, .. } = source;
    let n_whole = kc / 8 * 8;
    for k in (0..n_whole).step_by(8) {
        let mut rows = [_mm256_setzero_ps(); 8];
        for (lane, row) in rows[..L].iter_mut().enumerate() {
            // SAFETY: the source has L lanes and these terms.
            *row = unsafe { _mm256_loadu_ps(at.add(lane * lane_stride + k)) };
        }
        for (t, row) in transpose_8x8(rows).into_iter().enumerate() {
            // SAFETY: the row is inside the panel.
            unsafe { write_row(panel, panel_stride, width, k + t, kc, row) };
        }
    }
    if kc > n_whole {
        // SAFETY: the remaining terms of the source and rows of the panel.
        unsafe {
            let rest = source.terms_from(n_whole);
            transpose_some_lanes(panel.add(n_whole * panel_stride), panel_stride, width, rest);
        }
    }
}

/// Transposes any number of lanes and terms; missing ones are masked.
#[target_feature(enable = "avx2,fma")]
unsafe fn transpose_some_lanes(panel: *mut f32, panel_stride: usize, width: usize, source: PanelSource) {
    let PanelSource { at, lane_stride, lanes, kc, .. } = source;
    for k in (0..kc).step_by(8) {
        let read = lanes_mask((kc - k).min(8));
        let mut rows = [_mm256_setzero_ps(); 8];
        for (lane, row) in rows.iter_mut().enumerate().take(lanes) {
            // SAFETY: masked terms are not read; the others are inside the matrix.
            *row = unsafe { _mm256_maskload_ps(at.wrapping_add(lane * lane_stride + k), read) };
        }
        for (t, row) in transpose_8x8(rows).into_iter().enumerate().take(kc - k) {
            // SAFETY: the row is inside the panel.
            unsafe { write_row(panel, panel_stride, width, k + t, kc, row) };
        }
    }
}

/// Transposes an 8 × 8 matrix in registers.
#[target_feature(enable = "avx2")]
fn transpose_8x8(r: [__m256; 8]) -> [__m256; 8] {
    let mut quads = r;
    for g in 0..2 {
        let row = |i: usize| r[4 * g + i];
        let (a, b) = (_mm256_unpacklo_ps(row(0), row(1)), _mm256_unpackhi_ps(row(0), row(1)));
        let (c, d) = (_mm256_unpacklo_ps(row(2), row(3)), _mm256_unpackhi_ps(row(2), row(3)));
        quads[4 * g] = _mm256_shuffle_ps::<0x44>(a, c);
        quads[4 * g + 1] = _mm256_shuffle_ps::<0xee>(a, c);
        quads[4 * g + 2] = _mm256_shuffle_ps::<0x44>(b, d);
        quads[4 * g + 3] = _mm256_shuffle_ps::<0xee>(b, d);
    }
    let mut out = r;
    for t in 0..4 {
        out[t] = _mm256_permute2f128_ps::<0x20>(quads[t], quads[4 + t]);
        out[4 + t] = _mm256_permute2f128_ps::<0x31>(quads[t], quads[4 + t]);
    }
    out
}
