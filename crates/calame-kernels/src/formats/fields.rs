//! The parts of a block.

use half::f16;

/// Cuts a block into its fields, given their bytes in order.
pub fn fields<const N: usize>(block: &[u8], sizes: [usize; N]) -> [&[u8]; N] {
    let mut rest = block;
    sizes.map(|n| {
        let (field, after) = rest.split_at(n);
        rest = after;
        field
    })
}

/// The f16 that a field of two bytes holds.
pub fn half(field: &[u8]) -> f32 {
    f16::from_le_bytes([field[0], field[1]]).to_f32()
}
