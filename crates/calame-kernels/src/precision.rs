//! The number format of the operands of products.
//!
//! bf16 is a precision, not an instruction set. Where the processor lacks `vdpbf16ps`, operands are rounded to bf16 while
//! they are packed and multiplied as f32: any machine computes, tests and resumes what another one trained in bf16, only not
//! faster. The two differ in the last bits of sums.

use std::fmt;
use std::str::FromStr;

use crate::isa::{Isa, multiversion};

/// The number format to which the operands of a product are rounded; sums and all other operations are in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    /// f32: operands are not rounded.
    F32,
    /// bf16: a significand of 8 bits instead of 24, with the range of f32.
    Bf16,
}

impl Precision {
    /// Both precisions, the exact one first.
    pub const ALL: [Precision; 2] = [Precision::F32, Precision::Bf16];

    /// The precision in which this machine multiplies fastest with `isa`.
    ///
    /// AMD's processors multiply twice as many bf16 numbers at a time as f32 numbers. Intel's have the
    /// instruction too, but reach half the rate of f32: 172 and 352 GFLOP/s (Emerald Rapids, two threads, one run).
    pub fn fastest(isa: Isa) -> Precision {
        if isa == Isa::Avx512Bf16 && !is_intel() { Precision::Bf16 } else { Precision::F32 }
    }

    /// Rounds an operand to this precision.
    pub fn round(self, x: f32) -> f32 {
        match self {
            Precision::F32 => x,
            Precision::Bf16 => rounded_to_bf16(x),
        }
    }

    /// The name that the program prints and parses.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(s: &str) -> Result<Precision, String> {
        Precision::ALL
            .into_iter()
            .find(|precision| precision.name() == s)
            .ok_or_else(|| format!("unknown precision '{s}': expected f32 or bf16"))
    }
}

/// Whether the processor is one of Intel's.
#[cfg(target_arch = "x86_64")]
fn is_intel() -> bool {
    let vendor = std::arch::x86_64::__cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == *b"GenuineIntel"
}

#[cfg(not(target_arch = "x86_64"))]
fn is_intel() -> bool {
    false
}

/// Rounds to the nearest bf16, ties to even; the result is an f32. NaN stays NaN.
#[inline(always)]
pub(crate) fn rounded_to_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
    f32::from_bits(if x.is_nan() { bits | 0x0040_0000 } else { rounded })
}

multiversion! {
    /// Rounds every element to bf16.
    pub(crate) fn round_to_bf16(x: &mut [f32]) = round_to_bf16_body;
}

#[inline(always)]
fn round_to_bf16_body(x: &mut [f32]) {
    x.iter_mut().for_each(|x| *x = rounded_to_bf16(*x));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_nearest_even() {
        let of = |bits: u32| rounded_to_bf16(f32::from_bits(bits)).to_bits();
        assert_eq!(of(0x3f80_7fff), 0x3f80_0000);
        assert_eq!(of(0x3f80_8000), 0x3f80_0000, "a tie goes to the even one below");
        assert_eq!(of(0x3f81_8000), 0x3f82_0000, "a tie goes to the even one above");
        assert_eq!(of(0x3f80_8001), 0x3f81_0000);
        assert_eq!(of(0xbf81_8000), 0xbf82_0000);
        assert_eq!(rounded_to_bf16(f32::MAX), f32::INFINITY);
        assert_eq!(rounded_to_bf16(-0.0).to_bits(), (-0.0f32).to_bits());
        assert!(rounded_to_bf16(f32::NAN).is_nan());
        assert!(rounded_to_bf16(f32::from_bits(0x7f80_0001)).is_nan(), "a NaN of low bits only");
    }
}
