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

/// Splits a block into its fields, which the caller writes; their sizes in bytes are given in order.
pub fn fields_mut<const N: usize>(block: &mut [u8], sizes: [usize; N]) -> [&mut [u8]; N] {
    let mut rest = block;
    sizes.map(|n| rest.split_off_mut(..n).expect("the sizes are those of the block's fields"))
}

/// Reads a field of two bytes as f16.
pub fn half(field: &[u8]) -> f32 {
    f16::from_le_bytes([field[0], field[1]]).to_f32()
}

/// Stores a number as f16, rounded to nearest, ties to even; returns the value stored.
pub fn set_half(field: &mut [u8], x: f32) -> f32 {
    let x = f16::from_f32(x);
    field.copy_from_slice(&x.to_le_bytes());
    x.to_f32()
}

/// Stores the low `bits` bits of each code. A run of `run` bytes holds `run` codes in its lowest bits, the next `run`
/// codes in the bits above, and so on.
pub fn pack(codes: &[u8], bits: usize, run: usize, bytes: &mut [u8]) {
    let mask = (1 << bits) - 1;
    bytes.fill(0);
    for (bytes, codes) in bytes.chunks_exact_mut(run).zip(codes.chunks_exact(run * (8 / bits))) {
        for (i, codes) in codes.chunks_exact(run).enumerate() {
            bytes.iter_mut().zip(codes).for_each(|(byte, code)| *byte |= (code & mask) << (bits * i));
        }
    }
}
