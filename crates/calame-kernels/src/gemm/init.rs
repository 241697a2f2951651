//! The initial value of C.

/// What C is initialised with before the products are added.
#[derive(Clone, Copy, Debug)]
pub enum Init<'a> {
    /// C is overwritten by the products.
    Zero,
    /// The products are added to C.
    Add,
    /// Each row of C is initialised with this bias, which has as many elements as C has columns.
    Bias(&'a [f32]),
    /// The bias and then the products are added to each row of C.
    AddBias(&'a [f32]),
}
