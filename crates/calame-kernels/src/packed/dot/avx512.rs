//! Integer products by AVX-512 VNNI: one instruction multiplies four bytes of each of sixteen rows and adds them up.

use std::arch::x86_64::*;

use super::operands::{Operands, RowPart};
use crate::packed::blocks::PANEL_ROWS;

/// Most rows of x at a time: their sums and the codes of 32 elements stay in registers.
const MAX_ROWS: usize = 8;

/// Whether the processor has the instruction. It belongs to no [`crate::isa::Isa`], because results do not depend on
/// it.
pub(in crate::packed) fn is_available() -> bool {
    is_x86_feature_detected!("avx512vnni")
}

/// As [`super::add`].
///
/// # Safety
/// The chunk has the groups of its units; the processor has AVX-512 F, BW and VNNI.
pub(super) unsafe fn add(operands: &Operands<'_>, sums: &mut [[f32; PANEL_ROWS]]) {
    for (i, sums) in sums.chunks_mut(MAX_ROWS).enumerate() {
        let operands = &operands.skip_rows(i * MAX_ROWS);
        // SAFETY: promised by the caller.
        unsafe {
            match (operands.groups.len, operands.groups.has_mins) {
                (32, false) => of_rows::<1, false>(operands, sums),
                (32, true) => of_rows::<1, true>(operands, sums),
                (_, false) => of_rows::<2, false>(operands, sums),
                (_, true) => of_rows::<2, true>(operands, sums),
            }
        }
    }
}

/// For groups of 32 / PARTS elements.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn of_rows<const PARTS: usize, const MINS: bool>(operands: &Operands<'_>, sums: &mut [[f32; PANEL_ROWS]]) {
    // SAFETY: promised by the caller.
    unsafe {
        match sums.len() {
            8 => of::<8, PARTS, MINS>(operands, sums),
            7 => of::<7, PARTS, MINS>(operands, sums),
            6 => of::<6, PARTS, MINS>(operands, sums),
            5 => of::<5, PARTS, MINS>(operands, sums),
            4 => of::<4, PARTS, MINS>(operands, sums),
            3 => of::<3, PARTS, MINS>(operands, sums),
            2 => of::<2, PARTS, MINS>(operands, sums),
            _ => of::<1, PARTS, MINS>(operands, sums),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn of<const M: usize, const PARTS: usize, const MINS: bool>(
    operands: &Operands<'_>,
    sums: &mut [[f32; PANEL_ROWS]],
) {
    let chunk = &operands.chunk;
    // SAFETY: the rows exist and hold the chunk's elements; the chunk holds `n_units` units and their groups.
    unsafe {
        let rows: [RowPart; M] = std::array::from_fn(|r| operands.part(r));
        let mut total: [__m512; M] = std::array::from_fn(|r| _mm512_loadu_ps(sums[r].as_ptr()));
        let (codes, scales, mins) = (chunk.codes.as_ptr(), chunk.scales.as_ptr(), chunk.mins.as_ptr());
        for block in 0..chunk.codes.len() / 8 {
            let units: [__m512i; 8] = std::array::from_fn(|u| _mm512_loadu_si512(codes.add(8 * block + u).cast()));
            for half in 0..PARTS {
                let group = block * PARTS + half;
                let scale = _mm512_loadu_ps(scales.add(group).cast());
                let min = if MINS { _mm512_loadu_ps(mins.add(group).cast()) } else { _mm512_setzero_ps() };
                for (row, total) in rows.iter().zip(&mut total) {
                    let mut dot = _mm512_set1_epi32(*row.offsets.add(group));
                    let fours = row.codes.cast::<i32>().add(8 * block + half * (8 / PARTS));
                    for u in 0..8 / PARTS {
                        let x = _mm512_set1_epi32(fours.add(u).read_unaligned());
                        dot = _mm512_dpbusd_epi32(dot, units[half * (8 / PARTS) + u], x);
                    }
                    let scale = _mm512_mul_ps(scale, _mm512_set1_ps(*row.scales.add(block)));
                    *total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), scale, *total);
                    if MINS {
                        *total = _mm512_fnmadd_ps(min, _mm512_set1_ps(*row.sums.add(group)), *total);
                    }
                }
            }
        }
        for (sums, total) in sums.iter_mut().zip(total) {
            _mm512_storeu_ps(sums.as_mut_ptr(), total);
        }
    }
}
