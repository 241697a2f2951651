//! Number formats of weights: those of ggml, in which GGUF files store them.
//!
//! [`dequantize`] is the reference definition of every format. The value of an element is what it returns, to the bit;
//! faster code is tested against it. [`quantize`] converts in the other direction; `encode/` has its algorithms.
//!
//! A tensor is divided into blocks of consecutive elements, each with its own scale; a row is a whole number of blocks.
//! Numbers of several bytes are little-endian, scales are f16. `small.rs` has the formats with blocks of 32 elements,
//! `k.rs` the K formats with blocks of 256, `ternary.rs` those whose elements have three values.
//!
//! Source of the layouts: `ggml-common.h` and `ggml-quants.c` of ggml-org/ggml. Values are computed in f32, in the
//! order of its reference functions (`dequantize_row_…`) and without fused multiply-add.

mod encode;
mod fields;
mod k;
mod small;
pub(crate) mod ternary;

use std::fmt;

use half::{bf16, f16};

pub use encode::quantize;
pub(crate) use small::IQ4_NL_VALUES;

/// How the elements of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NumberFormat {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
    /// 8 bits and a scale.
    Q8_0,
    /// 4 bits and a scale.
    Q4_0,
    /// 4 bits, a scale and a minimum.
    Q4_1,
    /// 5 bits and a scale.
    Q5_0,
    /// 5 bits, a scale and a minimum.
    Q5_1,
    /// 4 bits that select one of 16 unevenly spaced values, and a scale.
    Iq4Nl,
    /// 2 bits; for every 16 elements, a scale and a minimum of 4 bits.
    Q2K,
    /// 3 bits; for every 16 elements, a scale of 6 bits.
    Q3K,
    /// 4 bits; for every 32 elements, a scale and a minimum of 6 bits.
    Q4K,
    /// 5 bits; for every 32 elements, a scale and a minimum of 6 bits.
    Q5K,
    /// 6 bits; for every 16 elements, a scale of 8 bits.
    Q6K,
    /// 4 bits that select one of 16 unevenly spaced values; for every 32 elements, a scale of 6 bits.
    Iq4Xs,
    /// Three values, five of them in 8 bits; a scale for every 256 elements.
    Tq1_0,
    /// Three values in 2 bits; a scale for every 256 elements.
    Tq2_0,
}

impl NumberFormat {
    /// Every format, for reading and writing.
    pub const ALL: [NumberFormat; 17] = [
        NumberFormat::F32,
        NumberFormat::F16,
        NumberFormat::Bf16,
        NumberFormat::Q8_0,
        NumberFormat::Q4_0,
        NumberFormat::Q4_1,
        NumberFormat::Q5_0,
        NumberFormat::Q5_1,
        NumberFormat::Iq4Nl,
        NumberFormat::Q2K,
        NumberFormat::Q3K,
        NumberFormat::Q4K,
        NumberFormat::Q5K,
        NumberFormat::Q6K,
        NumberFormat::Iq4Xs,
        NumberFormat::Tq1_0,
        NumberFormat::Tq2_0,
    ];

    /// Name and number in ggml (`enum ggml_type`), elements per block, and bytes per block.
    const fn facts(self) -> (&'static str, u32, usize, usize) {
        match self {
            NumberFormat::F32 => ("F32", 0, 1, 4),
            NumberFormat::F16 => ("F16", 1, 1, 2),
            NumberFormat::Bf16 => ("BF16", 30, 1, 2),
            NumberFormat::Q8_0 => ("Q8_0", 8, small::LEN, small::Q8_0),
            NumberFormat::Q4_0 => ("Q4_0", 2, small::LEN, small::Q4_0),
            NumberFormat::Q4_1 => ("Q4_1", 3, small::LEN, small::Q4_1),
            NumberFormat::Q5_0 => ("Q5_0", 6, small::LEN, small::Q5_0),
            NumberFormat::Q5_1 => ("Q5_1", 7, small::LEN, small::Q5_1),
            NumberFormat::Iq4Nl => ("IQ4_NL", 20, small::LEN, small::IQ4_NL),
            NumberFormat::Q2K => ("Q2_K", 10, k::LEN, k::Q2_K),
            NumberFormat::Q3K => ("Q3_K", 11, k::LEN, k::Q3_K),
            NumberFormat::Q4K => ("Q4_K", 12, k::LEN, k::Q4_K),
            NumberFormat::Q5K => ("Q5_K", 13, k::LEN, k::Q5_K),
            NumberFormat::Q6K => ("Q6_K", 14, k::LEN, k::Q6_K),
            NumberFormat::Iq4Xs => ("IQ4_XS", 23, k::LEN, k::IQ4_XS),
            NumberFormat::Tq1_0 => ("TQ1_0", 34, k::LEN, ternary::TQ1_0),
            NumberFormat::Tq2_0 => ("TQ2_0", 35, k::LEN, ternary::TQ2_0),
        }
    }

    /// The format's name in ggml, such as `Q4_K`.
    pub fn name(self) -> &'static str {
        self.facts().0
    }

    /// The format's number in ggml, as GGUF files store it.
    pub fn ggml_type(self) -> u32 {
        self.facts().1
    }

    /// The format with this number in ggml; `None` if it is not supported.
    pub fn of_ggml_type(number: u32) -> Option<NumberFormat> {
        NumberFormat::ALL.into_iter().find(|format| format.ggml_type() == number)
    }

    /// Number of elements in a block.
    pub fn block_len(self) -> usize {
        self.facts().2
    }

    /// Size of a block in bytes.
    pub fn block_bytes(self) -> usize {
        self.facts().3
    }
}

impl fmt::Display for NumberFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Converts the blocks in `bytes` to f32; `out` is overwritten.
///
/// # Panics
/// If `bytes` is not a whole number of blocks, or `out` does not have as many elements as they do.
pub fn dequantize(format: NumberFormat, bytes: &[u8], out: &mut [f32]) {
    match format {
        NumberFormat::F32 => blocks(bytes, out, |b, [x]| *x = f32::from_le_bytes(*b)),
        NumberFormat::F16 => blocks(bytes, out, |b, [x]| *x = f16::from_le_bytes(*b).to_f32()),
        NumberFormat::Bf16 => blocks(bytes, out, |b, [x]| *x = bf16::from_le_bytes(*b).to_f32()),
        NumberFormat::Q8_0 => blocks(bytes, out, small::q8_0),
        NumberFormat::Q4_0 => blocks(bytes, out, small::q4_0),
        NumberFormat::Q4_1 => blocks(bytes, out, small::q4_1),
        NumberFormat::Q5_0 => blocks(bytes, out, small::q5_0),
        NumberFormat::Q5_1 => blocks(bytes, out, small::q5_1),
        NumberFormat::Iq4Nl => blocks(bytes, out, small::iq4_nl),
        NumberFormat::Q2K => blocks(bytes, out, k::q2_k),
        NumberFormat::Q3K => blocks(bytes, out, k::q3_k),
        NumberFormat::Q4K => blocks(bytes, out, k::q4_k),
        NumberFormat::Q5K => blocks(bytes, out, k::q5_k),
        NumberFormat::Q6K => blocks(bytes, out, k::q6_k),
        NumberFormat::Iq4Xs => blocks(bytes, out, k::iq4_xs),
        NumberFormat::Tq1_0 => blocks(bytes, out, ternary::tq1_0),
        NumberFormat::Tq2_0 => blocks(bytes, out, ternary::tq2_0),
    }
}

/// Calls `block` with each block of `BYTES` bytes and its `LEN` elements.
fn blocks<const BYTES: usize, const LEN: usize>(
    bytes: &[u8],
    out: &mut [f32],
    block: impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    let (n_bytes, n_elements) = (bytes.len(), out.len());
    let ((bytes, rest), (out, others)) = (bytes.as_chunks::<BYTES>(), out.as_chunks_mut::<LEN>());
    assert!(
        rest.is_empty() && others.is_empty() && bytes.len() == out.len(),
        "dequantize: {n_elements} elements from {n_bytes} bytes, blocks of {LEN} in {BYTES}"
    );
    bytes.iter().zip(out).for_each(|(bytes, out)| block(bytes, out));
}
