//! The type of the kernels, and the choice among their instances.

/// `(units, x, x_stride, panel, panel_stride, sums)`: sums [M, nr], overwritten, of rows of x of `units` terms (or pairs of
/// terms), `x_stride` floats apart, and of a panel [units, nr] as it is stored, whose units are `panel_stride` times four
/// bytes apart.
pub(crate) type Few = unsafe fn(usize, *const f32, usize, *const f32, usize, *mut f32);

/// Selects the instance of a kernel for a number of rows.
macro_rules! by_rows {
    ($kernel:ident, $n_rows:expr $(, $argument:ty)*) => {
        match $n_rows {
            1 => $kernel::<1 $(, $argument)*> as Few,
            2 => $kernel::<2 $(, $argument)*>,
            3 => $kernel::<3 $(, $argument)*>,
            _ => $kernel::<4 $(, $argument)*>,
        }
    };
}
pub(super) use by_rows;
