//! Packing for the AVX-512 micro-kernels: rows are copied, or tiles of sixteen lanes are transposed in registers.
//!
//! Stores are unmasked where possible, since a masked store costs several ordinary ones on Zen 4. In a panel of width
//! 14, the store of a row overwrites the start of the next row, which is written afterwards; only the last row is
//! masked.

use std::arch::x86_64::*;

use crate::gemm::kernels::{Packing, PanelSource};
use crate::gemm::portable::gather;
use crate::precision::rounded_to_bf16;

pub(super) const F32: Packing = Packing { copy: copy_f32, transpose: transpose_f32, max_lanes: 16, gather };
pub(super) const BF16: Packing =
    Packing { copy: copy_bf16, transpose: transpose_bf16, max_lanes: 16, gather: gather_bf16 };

unsafe fn copy_f32(panel: *mut f32, panel_stride: usize, width: usize, source: PanelSource) {
    // SAFETY: the caller's promises are passed on; `kernels_of` selects this only if the machine has the instructions.
    unsafe {
        match width {
            32 => copy_lanes::<2>(panel, panel_stride, width, source),
            _ => copy_lanes::<1>(panel, panel_stride, width, source),
        }
    }
}

unsafe fn transpose_f32(panel: *mut f32, panel_stride: usize, width: usize, source: PanelSource) {
    // SAFETY: as in `copy_f32`.
    unsafe {
        match source.lanes {
            16 => transpose_lanes::<16>(panel, panel_stride, width, source),
            14 => transpose_lanes::<14>(panel, panel_stride, width, source),
            _ => transpose_some_lanes(panel, panel_stride, width, source),
        }
    }
}

unsafe fn copy_bf16(panel: *mut f32, panel_stride: usize, width: usize, source: PanelSource) {
    // SAFETY: as in `copy_f32`.
    unsafe {
        match width {
            32 => copy_pairs::<2>(panel, panel_stride, width, source),
            _ => copy_pairs::<1>(panel, panel_stride, width, source),
        }
    }
}

unsafe fn transpose_bf16(panel: *mut f32, panel_stride: usize, width: usize, source: PanelSource) {
    // SAFETY: as in `copy_f32`.
    unsafe {
        match source.lanes {
            16 => transpose_pairs::<16>(panel, panel_stride, width, source),
            14 => transpose_pairs::<14>(panel, panel_stride, width, source),
            _ => transpose_some_pairs(panel, panel_stride, width, source),
        }
    }
}

/// Stores sixteen lanes of a row of a panel, or only those in `write` if the store may not extend into the next row.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn store(to: *mut f32, row: __m512, write: __mmask16, unmasked: bool) {
    // SAFETY: the caller promises the lanes of this row; lanes beyond it belong to the next row, which is written
    // later.
    unsafe {
        if unmasked {
            _mm512_storeu_ps(to, row);
        } else {
            _mm512_mask_storeu_ps(to, write, row);
        }
    }
}

/// Number of rows of a panel whose stores need no mask.
fn whole_rows(units: usize, width: usize) -> usize {
    if width.is_multiple_of(16) { units } else { units - 1 }
}

/// The mask of the first `lanes` of sixteen lanes.
pub fn lanes_mask(lanes: usize) -> __mmask16 {
    ((1u32 << lanes) - 1) as __mmask16
}

/// The masks of `n` lanes in groups of sixteen.
fn masks<const G: usize>(n: usize) -> [__mmask16; G] {
    std::array::from_fn(|g| lanes_mask(n.saturating_sub(16 * g).min(16)))
}

#[target_feature(enable = "avx512f")]
unsafe fn copy_lanes<const G: usize>(panel: *mut f32, panel_stride: usize, width: usize, source: PanelSource) {
    let PanelSource { at, k_stride, lanes, kc, .. } = source;
    let (read, write, n_whole) = (masks::<G>(lanes), masks::<G>(width), whole_rows(kc, width));
    for k in 0..kc {
        for g in 0..G {
            // SAFETY: masked lanes are not read; the others are inside the matrix and the panel.
            unsafe {
                let row = _mm512_maskz_loadu_ps(read[g], at.wrapping_add(k * k_stride + 16 * g));
                store(panel.add(k * panel_stride + 16 * g), row, write[g], k < n_whole);
            }
        }
    }
}

/// Transposes tiles of L lanes × 16 terms in registers.
#[target_feature(enable = "avx512f")]
unsafe fn transpose_lanes<const L: usize>(panel: *mut f32, panel_stride: usize, width: usize, source: PanelSource) {
    let PanelSource { at, lane_stride, kc, .. } = source;
    let (write, n_whole, n_tiles) = (lanes_mask(width), whole_rows(kc, width), kc / 16);
    for k in (0..n_tiles).map(|tile| 16 * tile) {
        let mut rows = [_mm512_setzero_ps(); 16];
        for (lane, row) in rows[..L].iter_mut().enumerate() {
            // SAFETY: the source has L lanes and these terms.
            *row = unsafe { _mm512_loadu_ps(at.add(lane * lane_stride + k)) };
        }
        for (t, row) in transpose_16x16(rows).into_iter().enumerate() {
            // SAFETY: the row is inside the panel.
            unsafe { store(panel.add((k + t) * panel_stride), row, write, k + t < n_whole) };
        }
    }
    if kc > 16 * n_tiles {
        // SAFETY: the remaining terms of the source and rows of the panel.
        unsafe {
            let rest = source.terms_from(16 * n_tiles);
            transpose_some_lanes(panel.add(16 * n_tiles * panel_stride), panel_stride, width, rest);
        }
    }
}

/// Transposes any number of lanes and terms; missing ones are masked.
#[target_feature(enable = "avx512f")]
unsafe fn transpose_some_lanes(panel: *mut f32, panel_stride: usize, width: usize, source: PanelSource) {
    let PanelSource { at, lane_stride, lanes, kc, .. } = source;
    let write = lanes_mask(width);
    for k in (0..kc).step_by(16) {
        let terms = (kc - k).min(16);
        let read = lanes_mask(terms);
        let mut rows = [_mm512_setzero_ps(); 16];
        for (lane, row) in rows.iter_mut().enumerate().take(lanes) {
            // SAFETY: terms beyond the block are masked.
            *row = unsafe { _mm512_maskz_loadu_ps(read, at.wrapping_add(lane * lane_stride + k)) };
        }
        for (t, row) in transpose_16x16(rows).iter().enumerate().take(terms) {
            // SAFETY: lanes beyond the panel's width are masked.
            unsafe { _mm512_mask_storeu_ps(panel.add((k + t) * panel_stride), write, *row) };
        }
    }
}

/// Rounds terms to bf16 and interleaves the rows of terms 2u and 2u + 1: a unit holds two terms of a lane.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn copy_pairs<const G: usize>(panel: *mut f32, panel_stride: usize, width: usize, source: PanelSource) {
    let PanelSource { at, k_stride, lanes, kc, .. } = source;
    let mut interleave = [0u16; 32];
    for lane in 0..16 {
        interleave[2 * lane] = lane as u16;
        interleave[2 * lane + 1] = 16 + lane as u16;
    }
    // SAFETY: the array has 64 bytes.
    let interleave = unsafe { _mm512_loadu_si512(interleave.as_ptr().cast()) };
    let (read, write, units) = (masks::<G>(lanes), masks::<G>(width), kc.div_ceil(2));
    let n_whole = whole_rows(units, width);
    for unit in 0..units {
        for g in 0..G {
            let second = if 2 * unit + 1 < kc { read[g] } else { 0 };
            // SAFETY: masked lanes are not read; the others are inside the matrix and the panel.
            unsafe {
                let at = at.wrapping_add(2 * unit * k_stride + 16 * g);
                let low = _mm512_maskz_loadu_ps(read[g], at);
                let high = _mm512_maskz_loadu_ps(second, at.wrapping_add(k_stride));
                let both: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(high, low));
                let row = _mm512_castsi512_ps(_mm512_permutexvar_epi16(interleave, both));
                store(panel.add(unit * panel_stride + 16 * g), row, write[g], unit < n_whole);
            }
        }
    }
}

/// As [`copy_pairs`] for lanes whose terms are contiguous: transposes tiles of L lanes × 32 terms in registers.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn transpose_pairs<const L: usize>(panel: *mut f32, panel_stride: usize, width: usize, source: PanelSource) {
    let PanelSource { at, lane_stride, kc, .. } = source;
    let (write, n_whole, n_tiles) = (lanes_mask(width), whole_rows(kc.div_ceil(2), width), kc / 32);
    for unit in (0..n_tiles).map(|tile| 16 * tile) {
        let mut rows = [_mm512_setzero_ps(); 16];
        for (lane, row) in rows[..L].iter_mut().enumerate() {
            // SAFETY: the source has L lanes and these terms; both types are 64 bytes.
            *row = unsafe {
                let at = at.add(lane * lane_stride + 2 * unit);
                let pairs = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(at.add(16)), _mm512_loadu_ps(at));
                std::mem::transmute::<__m512bh, __m512>(pairs)
            };
        }
        for (u, row) in transpose_16x16(rows).into_iter().enumerate() {
            // SAFETY: the row is inside the panel.
            unsafe { store(panel.add((unit + u) * panel_stride), row, write, unit + u < n_whole) };
        }
    }
    if kc > 32 * n_tiles {
        // SAFETY: the remaining terms of the source and rows of the panel.
        unsafe {
            let rest = source.terms_from(32 * n_tiles);
            transpose_some_pairs(panel.add(16 * n_tiles * panel_stride), panel_stride, width, rest);
        }
    }
}

/// Transposes any number of lanes and terms; missing ones are masked.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn transpose_some_pairs(panel: *mut f32, panel_stride: usize, width: usize, source: PanelSource) {
    let PanelSource { at, lane_stride, lanes, kc, .. } = source;
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
        for (u, row) in transpose_16x16(rows).iter().enumerate().take((kc - k).div_ceil(2)) {
            // SAFETY: lanes beyond the panel's width are masked.
            unsafe { _mm512_mask_storeu_ps(panel.add((k / 2 + u) * panel_stride), write, *row) };
        }
    }
}

/// Rounds a row to pairs of bf16; the last of an odd number of terms is paired with zero.
///
/// # Safety
/// The processor has AVX-512 BF16.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(in crate::gemm) unsafe fn round_to_pairs(x: &[f32], pairs: &mut [f32]) {
    assert_eq!(pairs.len(), x.len().div_ceil(2), "round_to_pairs: lengths");
    for (x, pairs) in x.chunks(32).zip(pairs.chunks_mut(16)) {
        let mask = |from: usize| lanes_mask(x.len().saturating_sub(from).min(16));
        // SAFETY: masked lanes are neither read nor written; both types are 64 bytes.
        unsafe {
            let low = _mm512_maskz_loadu_ps(mask(0), x.as_ptr());
            let high = _mm512_maskz_loadu_ps(mask(16), x.as_ptr().wrapping_add(16));
            let rounded = std::mem::transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(high, low));
            _mm512_mask_storeu_ps(pairs.as_mut_ptr(), lanes_mask(pairs.len()), rounded);
        }
    }
}

/// As [`copy_pairs`] for any layout.
unsafe fn gather_bf16(panel: *mut f32, panel_stride: usize, width: usize, source: PanelSource) {
    let PanelSource { at, lane_stride, k_stride, lanes, kc } = source;
    for unit in 0..kc.div_ceil(2) {
        for lane in 0..width {
            let term = |k: usize| {
                let inside = lane < lanes && k < kc;
                // SAFETY: lane and term are inside the matrix.
                let x = if inside { unsafe { *at.add(lane * lane_stride + k * k_stride) } } else { 0.0 };
                rounded_to_bf16(x).to_bits() >> 16
            };
            let pair = f32::from_bits(term(2 * unit) | term(2 * unit + 1) << 16);
            // SAFETY: the row is inside the panel.
            unsafe { *panel.add(unit * panel_stride + lane) = pair };
        }
    }
}

/// Transposes a 16 × 16 matrix in registers.
#[target_feature(enable = "avx512f")]
fn transpose_16x16(r: [__m512; 16]) -> [__m512; 16] {
    let mut pairs = r;
    for i in 0..8 {
        pairs[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    // quads[4g + t] holds term t, of the four of each 128-bit lane, of rows 4g..4g + 4.
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
