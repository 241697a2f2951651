//! By AVX-512 with VNNI: all sixteen rows of a panel in one vector.

use std::arch::x86_64::*;

use super::format::Format;
use super::lanes::{Lanes, instructions};
use super::operands::{Fused, PanelOperands};
use super::product::{product, select};
use crate::formats::NumberFormat;
use crate::packed::blocks::PANEL_ROWS;

pub(super) fn kernel(format: NumberFormat, n_rows: usize) -> Option<Fused> {
    select!(kernel_of, format, n_rows)
}

/// The kernel of a format for M rows of x.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn kernel_of<const M: usize, F: Format<Avx512>>(operands: &PanelOperands<'_>, sums: &mut [[f32; PANEL_ROWS]]) {
    // SAFETY: promised by the caller.
    unsafe { product::<M, Avx512, F>(operands, sums) }
}

pub(super) struct Avx512;

impl Lanes for Avx512 {
    type Bytes = __m512i;
    type Sums = __m512i;
    type Floats = __m512;
    const ROWS: usize = 16;

    #[inline(always)]
    fn prefetch(at: *const u8) {
        // SAFETY: a prefetch of any address has no effect but on time.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    instructions! {
        fn load(at: *const u8) -> __m512i = _mm512_loadu_si512(at.cast());
        fn splat(byte: u8) -> __m512i = _mm512_set1_epi8(byte as i8);
        fn and(a: __m512i, b: __m512i) -> __m512i = _mm512_and_si512(a, b);
        fn or(a: __m512i, b: __m512i) -> __m512i = _mm512_or_si512(a, b);
        fn shift_right(bytes: __m512i, n: u32) -> __m512i = _mm512_srl_epi16(bytes, _mm_cvtsi32_si128(n as i32));
        fn shift_left(bytes: __m512i, n: u32) -> __m512i = _mm512_sll_epi16(bytes, _mm_cvtsi32_si128(n as i32));
        fn look_up(table: &[u8; 16], bytes: __m512i) -> __m512i = {
            _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast())), bytes)
        };
        fn multiply_bytes(bytes: __m512i, by: u8) -> __m512i = {
            let (low, by) = (_mm512_set1_epi16(0xff), _mm512_set1_epi16(i16::from(by)));
            let even = _mm512_and_si512(_mm512_mullo_epi16(bytes, by), low);
            let odd = _mm512_mullo_epi16(_mm512_srli_epi16::<8>(bytes), by);
            _mm512_or_si512(even, _mm512_slli_epi16::<8>(odd))
        };
        fn is_above(bytes: __m512i, bound: u8) -> __m512i = {
            _mm512_min_epu8(_mm512_subs_epu8(bytes, _mm512_set1_epi8(bound as i8)), _mm512_set1_epi8(1))
        };
        fn add_bytes(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi8(a, b);
        fn spread(bits: __m512i, unit: u32) -> __m512i = {
            let four = _mm512_srl_epi32(bits, _mm_cvtsi32_si128(4 * unit as i32));
            // Four bits, moved to the lowest bits of four bytes.
            let four = _mm512_and_si512(four, _mm512_set1_epi32(15));
            let spread = _mm512_mullo_epi32(four, _mm512_set1_epi32(0x0020_4081));
            _mm512_slli_epi32::<4>(_mm512_and_si512(spread, _mm512_set1_epi32(0x0101_0101)))
        };
        fn start(offset_sum: i32) -> __m512i = _mm512_set1_epi32(offset_sum);
        fn add_products(sums: __m512i, codes: __m512i, x: *const i8) -> __m512i = {
            _mm512_dpbusd_epi32(sums, codes, _mm512_set1_epi32(x.cast::<i32>().read_unaligned()))
        };
        fn floats(sums: __m512i) -> __m512 = _mm512_cvtepi32_ps(sums);
        fn zero() -> __m512 = _mm512_setzero_ps();
        fn broadcast(x: f32) -> __m512 = _mm512_set1_ps(x);
        fn multiply(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        fn multiply_add(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        fn subtract_product(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fnmadd_ps(a, b, c);
        fn from_f16(at: *const u8) -> __m512 = _mm512_cvtph_ps(_mm256_loadu_si256(at.cast()));
        fn from_i8(at: *const u8) -> __m512 = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at.cast())));
        fn store(x: __m512, to: *mut f32) = _mm512_storeu_ps(to, x);
    }
}
