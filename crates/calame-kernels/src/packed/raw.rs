//! Buffers of f32 as bytes and other plain numbers: every buffer of the crate is aligned to a cache line.

/// A number without invalid bits and without padding, of at most four bytes.
///
/// # Safety
/// Any bits are a valid value, the size divides four bytes, and so does the alignment.
pub(super) unsafe trait Plain: Copy {}
// SAFETY: integers and floats of at most four bytes.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for i8 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for i32 {}

/// The same memory as numbers of another type.
pub(super) fn cast<T: Plain>(x: &[f32]) -> &[T] {
    // SAFETY: the memory is that of `x`; T is valid for any bits and not more aligned than f32.
    unsafe { std::slice::from_raw_parts(x.as_ptr().cast(), size_of_val(x) / size_of::<T>()) }
}

/// As [`cast`], to be changed.
pub(super) fn cast_mut<T: Plain>(x: &mut [f32]) -> &mut [T] {
    // SAFETY: as in `cast`; any bits that are written are valid f32.
    unsafe { std::slice::from_raw_parts_mut(x.as_mut_ptr().cast(), size_of_val(x) / size_of::<T>()) }
}
