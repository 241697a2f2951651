//! From f32 to the number formats: the inverse of [`dequantize`](super::dequantize), with the smallest error that the
//! reference finds.
//!
//! A block's elements are divided by a scale and rounded. The formats differ in how they choose the scale:
//!
//! - `small.rs`: from the largest element or the range of the block of 32; IQ4_NL searches.
//! - `k.rs`: a search for each group of 16 or 32. The block's scale then maps the largest scale of a group to the
//!   largest integer that the format stores; the elements are rounded again under the scales as stored.
//! - `ternary.rs`: the largest element of the block of 256.
//!
//! `search.rs` has the searches for the scale with the smallest weighted squared error. Large elements have the larger
//! weights: their errors change the products of a matrix most.
//!
//! Source: `quantize_row_…_ref` and `quantize_row_iq4_nl_impl` in `ggml-quants.c` of ggml-org/ggml. The bytes are equal
//! to theirs for all finite elements, when they are compiled for x86 without fused multiply-add and without reordered
//! sums; so they are those of llama.cpp's quantization without an importance matrix.

mod k;
mod search;
mod small;
mod ternary;

use half::{bf16, f16};

use super::NumberFormat;

/// Converts elements to blocks; `bytes` is overwritten.
///
/// F16 and BF16 are rounded to nearest, ties to even. A block with an element that is infinite or NaN has unspecified
/// bytes; the caller checks for them if that matters.
///
/// # Panics
/// If `bytes` is not a whole number of blocks, or `elements` does not have as many elements as they do.
pub fn quantize(format: NumberFormat, elements: &[f32], bytes: &mut [u8]) {
    match format {
        NumberFormat::F32 => blocks(elements, bytes, |[x], b| *b = x.to_le_bytes()),
        NumberFormat::F16 => blocks(elements, bytes, |[x], b| *b = f16::from_f32(*x).to_le_bytes()),
        NumberFormat::Bf16 => blocks(elements, bytes, |[x], b| *b = bf16::from_f32(*x).to_le_bytes()),
        NumberFormat::Q8_0 => blocks(elements, bytes, small::q8_0),
        NumberFormat::Q4_0 => blocks(elements, bytes, small::q4_0),
        NumberFormat::Q4_1 => blocks(elements, bytes, small::q4_1),
        NumberFormat::Q5_0 => blocks(elements, bytes, small::q5_0),
        NumberFormat::Q5_1 => blocks(elements, bytes, small::q5_1),
        NumberFormat::Iq4Nl => blocks(elements, bytes, small::iq4_nl),
        NumberFormat::Q2K => blocks(elements, bytes, k::q2_k),
        NumberFormat::Q3K => blocks(elements, bytes, k::q3_k),
        NumberFormat::Q4K => blocks(elements, bytes, k::q4_k),
        NumberFormat::Q5K => blocks(elements, bytes, k::q5_k),
        NumberFormat::Q6K => blocks(elements, bytes, k::q6_k),
        NumberFormat::Iq4Xs => blocks(elements, bytes, k::iq4_xs),
        NumberFormat::Tq1_0 => blocks(elements, bytes, ternary::tq1_0),
        NumberFormat::Tq2_0 => blocks(elements, bytes, ternary::tq2_0),
    }
}

/// Calls `block` with each `LEN` elements and their block of `BYTES` bytes.
fn blocks<const LEN: usize, const BYTES: usize>(
    elements: &[f32],
    bytes: &mut [u8],
    block: impl Fn(&[f32; LEN], &mut [u8; BYTES]),
) {
    let (n_elements, n_bytes) = (elements.len(), bytes.len());
    let ((elements, others), (bytes, rest)) = (elements.as_chunks::<LEN>(), bytes.as_chunks_mut::<BYTES>());
    assert!(
        rest.is_empty() && others.is_empty() && bytes.len() == elements.len(),
        "quantize: {n_elements} elements to {n_bytes} bytes, blocks of {LEN} in {BYTES}"
    );
    elements.iter().zip(bytes).for_each(|(elements, bytes)| block(elements, bytes));
}
