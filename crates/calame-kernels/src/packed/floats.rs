//! Panels of f32, f16 and bf16: term after term of k, each with one element of every row of the panel.
//!
//! f32, and bf16 where the processor multiplies pairs of bf16, are stored as the panels that the micro-kernels read.
//! Otherwise an element takes two bytes, and a product of many rows widens a panel to f32 first; every such number is
//! exact in f32.

use half::f16;

use super::raw::{cast, cast_mut};
use super::shape::PackedShape;
use crate::formats::NumberFormat;
use crate::gemm::{Kernels, MatRef, kernels_of};
use crate::isa::Isa;
use crate::precision::{Precision, rounded_to_bf16};

/// Most rows of a panel, on any instruction set.
pub(super) const MAX_PANEL_ROWS: usize = 32;

/// The micro-kernels that multiply this format.
pub(super) fn kernels(shape: &PackedShape) -> Kernels {
    kernels_of(shape.isa, precision(shape))
}

/// What the rows of x are rounded to.
pub(super) fn precision(shape: &PackedShape) -> Precision {
    if shape.format == NumberFormat::Bf16 { Precision::Bf16 } else { Precision::F32 }
}

/// Whether panels are stored as the micro-kernels read them.
pub(super) fn is_direct(shape: &PackedShape) -> bool {
    match shape.format {
        NumberFormat::F32 => true,
        NumberFormat::Bf16 => shape.isa == Isa::Avx512Bf16,
        _ => false,
    }
}

pub(super) fn panel_rows(shape: &PackedShape) -> usize {
    kernels(shape).nr
}

pub(super) fn panel_len(shape: &PackedShape) -> usize {
    let kernels = kernels(shape);
    if is_direct(shape) { kernels.units(shape.cols) * kernels.nr } else { (shape.cols * kernels.nr).div_ceil(2) }
}

pub(super) fn write_panel(shape: &PackedShape, panel: &mut [f32], rows: MatRef<'_>) {
    if is_direct(shape) {
        return kernels(shape).pack_cols(panel, &rows.t(), 0, 0, shape.cols);
    }
    // Packed as f32 and then rounded.
    let kernels = kernels_of(shape.isa, Precision::F32);
    let mut wide = vec![0.0; shape.cols * kernels.nr];
    kernels.pack_cols(&mut wide, &rows.t(), 0, 0, shape.cols);
    let narrow = |x: f32| match shape.format {
        NumberFormat::F16 => f16::from_f32(x).to_bits(),
        _ => (rounded_to_bf16(x).to_bits() >> 16) as u16,
    };
    cast_mut::<u16>(panel).iter_mut().zip(&wide).for_each(|(to, &x)| *to = narrow(x));
}

pub(super) fn read_row(shape: &PackedShape, panel: &[f32], lane: usize, out: &mut [f32]) {
    let nr = panel_rows(shape);
    match shape.format {
        NumberFormat::F32 => out.iter_mut().zip(panel.chunks_exact(nr)).for_each(|(x, term)| *x = term[lane]),
        NumberFormat::Bf16 if is_direct(shape) => {
            for (pair, unit) in out.chunks_mut(2).zip(panel.chunks_exact(nr)) {
                let bits = unit[lane].to_bits();
                pair[0] = f32::from_bits(bits << 16);
                if let Some(second) = pair.get_mut(1) {
                    *second = f32::from_bits(bits & 0xffff_0000);
                }
            }
        }
        format => {
            let terms = cast::<u16>(panel).chunks_exact(nr);
            out.iter_mut().zip(terms).for_each(|(x, term)| *x = widened(format, term[lane]));
        }
    }
}

/// The value of an element of two bytes.
fn widened(format: NumberFormat, bits: u16) -> f32 {
    match format {
        NumberFormat::F16 => f16::from_bits(bits).to_f32(),
        _ => f32::from_bits(u32::from(bits) << 16),
    }
}

/// Widens terms `pc..pc + kc` of a panel to f32: `out` becomes [kc, nr].
pub(super) fn widen(shape: &PackedShape, panel: &[f32], pc: usize, kc: usize, out: &mut [f32]) {
    let nr = panel_rows(shape);
    let from = &cast::<u16>(panel)[pc * nr..(pc + kc) * nr];
    match shape.format {
        NumberFormat::F16 => super::few::widen_f16(shape.isa, from, &mut out[..kc * nr]),
        _ => super::few::widen_bf16(shape.isa, from, &mut out[..kc * nr]),
    }
}

pub(super) fn is_finite(shape: &PackedShape, panel: &[f32]) -> bool {
    let exponent = match shape.format {
        NumberFormat::F32 => return crate::memory::all_finite(panel),
        NumberFormat::F16 => 0x7c00,
        _ => 0x7f80,
    };
    // The highest bits of a bf16 are those of an f32, also in pairs.
    cast::<u16>(panel).iter().fold(true, |all, bits| all & (bits & exponent != exponent))
}
