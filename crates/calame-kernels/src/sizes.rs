//! Products of sizes, for the checks on which unsafe code relies: a product that wraps could equal any length.

/// The product of `sizes`, from left to right; `None` if it is larger than any memory.
pub(crate) fn product<const N: usize>(sizes: [usize; N]) -> Option<usize> {
    sizes.into_iter().try_fold(1usize, usize::checked_mul)
}

/// Whether an array of `len` elements has exactly these dimensions.
pub(crate) fn has_dims<const N: usize>(len: usize, dims: [usize; N]) -> bool {
    product(dims) == Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_that_wraps_equals_no_length() {
        const HALF: usize = 1 << (usize::BITS / 2);
        assert_eq!(HALF.wrapping_mul(HALF), 0);
        assert!(!has_dims(0, [HALF, HALF]) && !has_dims(0, [HALF, HALF, 0]));
        assert!(has_dims(6, [2, 3]) && !has_dims(7, [2, 3]) && has_dims(0, [0, HALF, HALF]) && has_dims(1, []));
    }
}
