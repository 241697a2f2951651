//! What the products are added to.

/// What an element of C starts from before the products are added.
#[derive(Clone, Copy, Debug)]
pub enum Init<'a> {
    /// C is overwritten.
    Zero,
    /// The products are added to what C holds.
    Add,
    /// Each row starts from this one, of as many elements as C has columns.
    Bias(&'a [f32]),
    /// The products are added to what C holds plus this row: C + bias is rounded first.
    AddBias(&'a [f32]),
}
