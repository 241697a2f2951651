//! Integer products by AVX2: pairs of bytes are multiplied and added in 16 bits, pairs of those in 32 bits.
//!
//! Two products of a code up to 127 with a number of x fit into 16 bits. Codes of 8 bits are signed numbers plus 128:
//! their absolute values are multiplied by x with the sign of the number, at most 2·128·127, which fits too.

use std::arch::x86_64::*;

use super::operands::{Operands, RowPart};
use crate::packed::blocks::PANEL_ROWS;

/// Most rows of x at a time.
const MAX_ROWS: usize = 4;

/// As [`super::add`].
///
/// # Safety
/// The chunk has the groups of its units; the processor has AVX2 and FMA.
pub(super) unsafe fn add(operands: &Operands<'_>, sums: &mut [[f32; PANEL_ROWS]]) {
    for (i, sums) in sums.chunks_mut(MAX_ROWS).enumerate() {
        let operands = &operands.skip_rows(i * MAX_ROWS);
        // SAFETY: promised by the caller.
        unsafe {
            match (operands.groups.has_mins, operands.is_wide()) {
                (true, _) => of_rows::<true, false>(operands, sums),
                (false, true) => of_rows::<false, true>(operands, sums),
                (false, false) => of_rows::<false, false>(operands, sums),
            }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn of_rows<const MINS: bool, const WIDE: bool>(operands: &Operands<'_>, sums: &mut [[f32; PANEL_ROWS]]) {
    // SAFETY: promised by the caller.
    unsafe {
        match sums.len() {
            4 => of::<4, MINS, WIDE>(operands, sums),
            3 => of::<3, MINS, WIDE>(operands, sums),
            2 => of::<2, MINS, WIDE>(operands, sums),
            _ => of::<1, MINS, WIDE>(operands, sums),
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn of<const M: usize, const MINS: bool, const WIDE: bool>(
    operands: &Operands<'_>,
    sums: &mut [[f32; PANEL_ROWS]],
) {
    let Operands { groups, chunk, .. } = operands;
    let (units_per_group, bias) = (groups.len / 4, _mm256_set1_epi8(-128));
    // SAFETY: the rows exist and hold the chunk's elements; the chunk holds the groups' units; a vector has half a unit.
    unsafe {
        let rows: [RowPart; M] = std::array::from_fn(|r| operands.part(r));
        for group in 0..chunk.scales.len() {
            // The sign makes up for the offset of wide codes.
            let start = |r: usize| _mm256_set1_epi32(if WIDE { 0 } else { *rows[r].offsets.add(group) });
            let mut dots: [[__m256i; 2]; M] = std::array::from_fn(|r| [start(r); 2]);
            for unit in group * units_per_group..(group + 1) * units_per_group {
                let at: *const __m256i = chunk.codes.as_ptr().add(unit).cast();
                let mut codes = [_mm256_loadu_si256(at), _mm256_loadu_si256(at.add(1))];
                if WIDE {
                    codes = codes.map(|codes| _mm256_xor_si256(codes, bias));
                }
                for (row, dots) in rows.iter().zip(&mut dots) {
                    let x = _mm256_set1_epi32(row.codes.cast::<i32>().add(unit).read_unaligned());
                    for (dot, codes) in dots.iter_mut().zip(codes) {
                        *dot = _mm256_add_epi32(*dot, multiplied::<WIDE>(codes, x));
                    }
                }
            }
            for ((row, dots), sums) in rows.iter().zip(dots).zip(sums.iter_mut()) {
                let d = _mm256_set1_ps(*row.scales.add(group * groups.len / 32));
                for (half, dot) in dots.into_iter().enumerate() {
                    let to = sums.as_mut_ptr().add(8 * half);
                    let scale = _mm256_mul_ps(_mm256_loadu_ps(chunk.scales[group].as_ptr().add(8 * half)), d);
                    let mut total = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), scale, _mm256_loadu_ps(to));
                    if MINS {
                        let min = _mm256_loadu_ps(chunk.mins[group].as_ptr().add(8 * half));
                        total = _mm256_fnmadd_ps(min, _mm256_set1_ps(*row.sums.add(group)), total);
                    }
                    _mm256_storeu_ps(to, total);
                }
            }
        }
    }
}

/// The sums of four products of bytes each.
#[target_feature(enable = "avx2")]
#[inline]
fn multiplied<const WIDE: bool>(codes: __m256i, x: __m256i) -> __m256i {
    let pairs = if WIDE {
        _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes))
    } else {
        _mm256_maddubs_epi16(codes, x)
    };
    _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
}
