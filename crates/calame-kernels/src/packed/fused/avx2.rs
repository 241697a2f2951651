//! By AVX2: eight of a panel's sixteen rows in one vector, one half of the panel after the other.

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
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn kernel_of<const M: usize, F: Format<Avx2>>(operands: &PanelOperands<'_>, sums: &mut [[f32; PANEL_ROWS]]) {
    // SAFETY: promised by the caller.
    unsafe { product::<M, Avx2, F>(operands, sums) }
}

pub(super) struct Avx2;

impl Lanes for Avx2 {
    type Bytes = __m256i;
    type Sums = __m256i;
    type Floats = __m256;
    const ROWS: usize = 8;

    #[inline(always)]
    fn prefetch(at: *const u8) {
        // SAFETY: a prefetch of any address has no effect but on time.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    instructions! {
        fn load(at: *const u8) -> __m256i = _mm256_loadu_si256(at.cast());
        fn splat(byte: u8) -> __m256i = _mm256_set1_epi8(byte as i8);
        fn and(a: __m256i, b: __m256i) -> __m256i = _mm256_and_si256(a, b);
        fn or(a: __m256i, b: __m256i) -> __m256i = _mm256_or_si256(a, b);
        fn shift_right(bytes: __m256i, n: u32) -> __m256i = _mm256_srl_epi16(bytes, _mm_cvtsi32_si128(n as i32));
        fn shift_left(bytes: __m256i, n: u32) -> __m256i = _mm256_sll_epi16(bytes, _mm_cvtsi32_si128(n as i32));
        fn look_up(table: &[u8; 16], bytes: __m256i) -> __m256i = {
            _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast())), bytes)
        };
        fn multiply_bytes(bytes: __m256i, by: u8) -> __m256i = {
            let (low, by) = (_mm256_set1_epi16(0xff), _mm256_set1_epi16(i16::from(by)));
            let even = _mm256_and_si256(_mm256_mullo_epi16(bytes, by), low);
            let odd = _mm256_mullo_epi16(_mm256_srli_epi16::<8>(bytes), by);
            _mm256_or_si256(even, _mm256_slli_epi16::<8>(odd))
        };
        fn is_above(bytes: __m256i, bound: u8) -> __m256i = {
            _mm256_min_epu8(_mm256_subs_epu8(bytes, _mm256_set1_epi8(bound as i8)), _mm256_set1_epi8(1))
        };
        fn add_bytes(a: __m256i, b: __m256i) -> __m256i = _mm256_add_epi8(a, b);
        fn spread(bits: __m256i, unit: u32) -> __m256i = {
            let four = _mm256_srl_epi32(bits, _mm_cvtsi32_si128(4 * unit as i32));
            // Four bits, moved to the lowest bits of four bytes.
            let four = _mm256_and_si256(four, _mm256_set1_epi32(15));
            let spread = _mm256_mullo_epi32(four, _mm256_set1_epi32(0x0020_4081));
            _mm256_slli_epi32::<4>(_mm256_and_si256(spread, _mm256_set1_epi32(0x0101_0101)))
        };
        fn start(offset_sum: i32) -> __m256i = _mm256_set1_epi32(offset_sum);
        fn start_wide(_offset_sum: i32) -> __m256i = _mm256_setzero_si256();
        fn add_products(sums: __m256i, codes: __m256i, x: *const i8) -> __m256i = {
            let x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
            let pairs = _mm256_maddubs_epi16(codes, x);
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        };
        /// The codes are signed numbers plus 128: their absolute values, at most 128, are multiplied by x with the sign of the
        /// number. The sum of two such products fits into 16 bits.
        fn add_wide_products(sums: __m256i, codes: __m256i, x: *const i8) -> __m256i = {
            let codes = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
            let x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes));
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        };
        fn floats(sums: __m256i) -> __m256 = _mm256_cvtepi32_ps(sums);
        fn zero() -> __m256 = _mm256_setzero_ps();
        fn broadcast(x: f32) -> __m256 = _mm256_set1_ps(x);
        fn multiply(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        fn multiply_add(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        fn subtract_product(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fnmadd_ps(a, b, c);
        fn from_f16(at: *const u8) -> __m256 = _mm256_cvtph_ps(_mm_loadu_si128(at.cast()));
        fn from_i8(at: *const u8) -> __m256 = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(at.cast())));
        fn store(x: __m256, to: *mut f32) = _mm256_storeu_ps(to, x);
    }
}
