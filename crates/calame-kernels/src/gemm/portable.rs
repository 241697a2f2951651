//! The micro-kernel in plain Rust, for processors that have no version of their own.

use super::kernels::{Kernels, Store};

const MR: usize = 4;
const NR: usize = 8;

pub(super) const KERNELS: Kernels = Kernels { mr: MR, nr: NR, k_step: 1, tile, pack, rounds: None };

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
            Store::AddTo(bias) => {
                // SAFETY: promised by the caller.
                let bias = unsafe { std::slice::from_raw_parts(bias, cols) };
                row.iter_mut().zip(bias).zip(sum).for_each(|((c, b), s)| *c = b + s);
            }
        }
    }
}

/// Packs one panel element by element.
///
/// # Safety
/// `panel` has room for `kc * width` elements; lane l of term k stands at `source + l * lane_stride + k * k_stride`.
pub(super) unsafe fn pack(
    panel: *mut f32,
    width: usize,
    source: *const f32,
    lane_stride: usize,
    k_stride: usize,
    lanes: usize,
    kc: usize,
) {
    // SAFETY: promised by the caller; the panel may be uninitialised only in the sense of holding old values.
    let panel = unsafe { std::slice::from_raw_parts_mut(panel, kc * width) };
    for (k, panel) in panel.chunks_exact_mut(width).enumerate() {
        if lane_stride == 1 {
            // SAFETY: the lanes are inside the matrix.
            let row = unsafe { std::slice::from_raw_parts(source.add(k * k_stride), lanes) };
            panel[..lanes].copy_from_slice(row);
            panel[lanes..].fill(0.0);
            continue;
        }
        for (l, to) in panel.iter_mut().enumerate() {
            // SAFETY: lane and term are inside the matrix.
            *to = if l < lanes { unsafe { *source.add(l * lane_stride + k * k_stride) } } else { 0.0 };
        }
    }
}
