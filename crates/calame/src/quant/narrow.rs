//! Rounding f32 to the formats of 16 bits in which models are stored.

use half::{bf16, f16};

use super::NumberFormat;

/// The nearest number of `format` to `x`; halfway between two, the one whose last bit is 0 (IEEE 754, section 4.3.1).
///
/// # Panics
/// If the format is none of f32, f16 and bf16.
pub fn rounded(x: f32, format: NumberFormat) -> f32 {
    match format {
        NumberFormat::F32 => x,
        NumberFormat::F16 => f16::from_f32(x).to_f32(),
        NumberFormat::Bf16 => bf16::from_f32(x).to_f32(),
        other => panic!("rounded: {other:?} is a format of blocks"),
    }
}

/// Whether a finite `x` is still finite in `format`. The largest number of f16 is 65,504.
pub fn is_in_range(x: f32, format: NumberFormat) -> bool {
    rounded(x, format).is_finite() || !x.is_finite()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Halfway cases, the smallest and the largest numbers, by the definition of the formats.
    #[test]
    fn numbers_are_rounded_to_the_nearest() {
        let f16 = |x| rounded(x, NumberFormat::F16);
        assert_eq!(
            [f16(1.0), f16(1.0 + 2f32.powi(-11)), f16(1.0 + 3.0 * 2f32.powi(-11))],
            [1.0, 1.0, 1.0 + 2f32.powi(-9)]
        );
        assert_eq!([f16(65_504.0), f16(65_519.0)], [65_504.0; 2]);
        assert_eq!(f16(2f32.powi(-24)), 2f32.powi(-24));
        assert!(is_in_range(65_519.0, NumberFormat::F16) && !is_in_range(65_520.0, NumberFormat::F16));
        let bf16 = |x| rounded(x, NumberFormat::Bf16);
        assert_eq!([bf16(1.0 + 2f32.powi(-8)), bf16(1.0 + 3.0 * 2f32.powi(-8))], [1.0, 1.0 + 2f32.powi(-6)]);
        assert!(is_in_range(1e38, NumberFormat::Bf16) && is_in_range(f32::MAX, NumberFormat::F32));
    }
}
