//! The micro-kernel in plain Rust, for processors without a version of their own.

use super::kernels::{Kernels, Packing, PanelSource, Store};

const MR: usize = 4;
const NR: usize = 8;

const PACKING: Packing = Packing { copy, transpose: gather, max_lanes: NR, gather };

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
    // SAFETY: the caller's panels hold [kc][MR] and [kc][NR].
    let (a, b) = unsafe { (std::slice::from_raw_parts(a, kc * MR), std::slice::from_raw_parts(b, kc * NR)) };
    let mut sum = [[0.0f32; NR]; MR];
    for (a, b) in a.chunks_exact(MR).zip(b.chunks_exact(NR)) {
        for (sum, &a) in sum.iter_mut().zip(a) {
            for (sum, &b) in sum.iter_mut().zip(b) {
                *sum += a * b;
            }
        }
    }
    // SAFETY: the caller's tile of C has `rows` × `cols` elements.
    unsafe { write_tile(&sum, c, row_stride, rows, cols, store) }
}

/// Writes the first `rows` × `cols` sums into C.
///
/// # Safety
/// Row r of the tile is `cols` writable elements at `c + r * row_stride`; the bias in `store` has `cols` elements.
pub(super) unsafe fn write_tile<const N: usize>(
    sum: &[[f32; N]],
    c: *mut f32,
    row_stride: usize,
    rows: usize,
    cols: usize,
    store: Store,
) {
    for (r, sum) in sum.iter().enumerate().take(rows) {
        // SAFETY: promised by the caller.
        let row = unsafe { std::slice::from_raw_parts_mut(c.add(r * row_stride), cols) };
        match store {
            Store::Overwrite => row.copy_from_slice(&sum[..cols]),
            Store::Add => row.iter_mut().zip(sum).for_each(|(c, s)| *c += s),
            Store::Bias(bias) => {
                // SAFETY: promised by the caller.
                let bias = unsafe { std::slice::from_raw_parts(bias, cols) };
                row.iter_mut().zip(bias).zip(sum).for_each(|((c, b), s)| *c = b + s);
            }
        }
    }
}

/// Packs element by element, from any layout.
///
/// # Safety
/// As for [`Pack`](super::kernels::Pack): source and panel hold every element.
pub(super) unsafe fn gather(panel: *mut f32, panel_stride: usize, width: usize, source: PanelSource) {
    let PanelSource { at, lane_stride, k_stride, lanes, kc } = source;
    for k in 0..kc {
        for lane in 0..width {
            // SAFETY: lane and term are inside the matrix and the panel.
            unsafe {
                let x = if lane < lanes { *at.add(lane * lane_stride + k * k_stride) } else { 0.0 };
                *panel.add(k * panel_stride + lane) = x;
            }
        }
    }
}

/// Packs lanes that are contiguous.
unsafe fn copy(panel: *mut f32, panel_stride: usize, width: usize, source: PanelSource) {
    let PanelSource { at, k_stride, lanes, kc, .. } = source;
    for k in 0..kc {
        // SAFETY: the caller's source and panel hold the row.
        unsafe {
            let row = std::slice::from_raw_parts_mut(panel.add(k * panel_stride), width);
            row[..lanes].copy_from_slice(std::slice::from_raw_parts(at.add(k * k_stride), lanes));
            row[lanes..].fill(0.0);
        }
    }
}
