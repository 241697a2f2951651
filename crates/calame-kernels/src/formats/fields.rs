//! Access to the fields of a block.

use half::f16;

/// Splits a block into its fields, whose sizes in bytes are given in order.
pub fn fields<const N: usize>(block: &[u8], sizes: [usize; N]) -> [&[u8]; N] {
    let mut rest = block;
    sizes.map(|n| {
        let (field, after) = rest.split_at(n);
        rest = after;
        field
    })
}

/// Reads a field of two bytes as f16.
pub fn half(field: &[u8]) -> f32 {
    f16::from_le_bytes([field[0], field[1]]).to_f32()
}
