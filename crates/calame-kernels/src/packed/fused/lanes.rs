//! The instructions that the kernels are made of.

/// Vectors that hold four bytes, an integer or a float of each of [`ROWS`](Lanes::ROWS) rows of a panel.
///
/// Functions that take a pointer read as many bytes from it as a vector of their result needs.
///
/// # Safety
/// Every function needs the processor to have the instructions, and pointers to so many bytes.
pub trait Lanes {
    /// Four codes of each row.
    type Bytes: Copy;
    /// An integer of each row.
    type Sums: Copy;
    /// A float of each row.
    type Floats: Copy;
    /// Number of rows of a vector.
    const ROWS: usize;

    /// Starts to load the cache line of an address, which need not exist.
    fn prefetch(at: *const u8);
    unsafe fn load(at: *const u8) -> Self::Bytes;
    unsafe fn splat(byte: u8) -> Self::Bytes;
    unsafe fn and(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    unsafe fn or(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// Shifts pairs of bytes: bits move into the neighbouring byte, where the caller masks them.
    unsafe fn shift_right(bytes: Self::Bytes, n: u32) -> Self::Bytes;
    unsafe fn shift_left(bytes: Self::Bytes, n: u32) -> Self::Bytes;
    /// The entries of a table by the low four bits of bytes that are below 16.
    unsafe fn look_up(table: &[u8; 16], bytes: Self::Bytes) -> Self::Bytes;
    /// Products of bytes, modulo 256.
    unsafe fn multiply_bytes(bytes: Self::Bytes, by: u8) -> Self::Bytes;
    /// 1 for bytes above `bound`, else 0.
    unsafe fn is_above(bytes: Self::Bytes, bound: u8) -> Self::Bytes;
    unsafe fn add_bytes(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// The bits `4·unit..4·unit + 4` of each row's 32 bits, each as bit 4 of a byte.
    unsafe fn spread(bits: Self::Bytes, unit: u32) -> Self::Bytes;

    /// `−offset·Σ x`, as the first value of a sum.
    unsafe fn start(offset_sum: i32) -> Self::Sums;
    /// As [`start`](Lanes::start) for codes of 8 bits: 0 if [`add_wide_products`](Lanes::add_wide_products) subtracts
    /// their offset.
    #[inline(always)]
    unsafe fn start_wide(offset_sum: i32) -> Self::Sums {
        // SAFETY: promised by the caller.
        unsafe { Self::start(offset_sum) }
    }
    /// Adds the products of codes up to 127 with four numbers of x.
    unsafe fn add_products(sums: Self::Sums, codes: Self::Bytes, x: *const i8) -> Self::Sums;
    /// The same for codes of 8 bits.
    #[inline(always)]
    unsafe fn add_wide_products(sums: Self::Sums, codes: Self::Bytes, x: *const i8) -> Self::Sums {
        // SAFETY: promised by the caller.
        unsafe { Self::add_products(sums, codes, x) }
    }

    unsafe fn floats(sums: Self::Sums) -> Self::Floats;
    unsafe fn zero() -> Self::Floats;
    unsafe fn broadcast(x: f32) -> Self::Floats;
    unsafe fn multiply(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// a·b + c, rounded once.
    unsafe fn multiply_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// c − a·b, rounded once.
    unsafe fn subtract_product(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    unsafe fn from_f16(at: *const u8) -> Self::Floats;
    unsafe fn from_i8(at: *const u8) -> Self::Floats;
    unsafe fn store(x: Self::Floats, to: *mut f32);
}

/// Defines functions of [`Lanes`]. They are inlined into the kernel, which enables the instructions.
macro_rules! instructions {
    ($($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? = $body:expr;)*) => {
        $(
            $(#[$meta])*
            #[inline(always)]
            unsafe fn $name($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: promised by the caller.
                unsafe { $body }
            }
        )*
    };
}
pub(super) use instructions;
