//! Kernels of a few rows in plain Rust.

use half::f16;

use super::instance::{Few, by_rows};
use crate::formats::NumberFormat;

/// Columns of the portable tile.
const NR: usize = 8;

/// How an element is stored.
trait Element: Copy {
    fn widen(self) -> f32;
}

impl Element for f32 {
    fn widen(self) -> f32 {
        self
    }
}

#[derive(Clone, Copy)]
struct Half(u16);

impl Element for Half {
    fn widen(self) -> f32 {
        f16::from_bits(self.0).to_f32()
    }
}

#[derive(Clone, Copy)]
struct Brain(u16);

impl Element for Brain {
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
}

pub(super) fn kernel(format: NumberFormat, n_rows: usize) -> Few {
    match format {
        NumberFormat::F32 => by_rows!(few, n_rows, f32),
        NumberFormat::F16 => by_rows!(few, n_rows, Half),
        NumberFormat::Bf16 => by_rows!(few, n_rows, Brain),
        other => panic!("few: {other} has blocks"),
    }
}

unsafe fn few<const M: usize, E: Element>(
    units: usize,
    x: *const f32,
    x_stride: usize,
    panel: *const f32,
    panel_stride: usize,
    sums: *mut f32,
) {
    let mut total = [[0.0f32; NR]; M];
    for k in 0..units {
        // SAFETY: the caller's panel has the unit.
        let unit: *const E = unsafe { panel.add(k * panel_stride) }.cast();
        for (r, total) in total.iter_mut().enumerate() {
            for (lane, total) in total.iter_mut().enumerate() {
                // SAFETY: the caller's rows have `units` terms, and a unit has NR elements.
                *total += unsafe { *x.add(r * x_stride + k) * (*unit.add(lane)).widen() };
            }
        }
    }
    // SAFETY: the caller's sums are [M, NR].
    unsafe { std::slice::from_raw_parts_mut(sums, M * NR) }.copy_from_slice(total.as_flattened());
}
