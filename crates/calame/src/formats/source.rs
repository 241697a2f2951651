//! What every format of weights comes down to: named tensors in files, read one at a time by position.

use super::CheckpointError;
use crate::quant::NumberFormat;

/// A tensor as a file stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTensor {
    /// Its key in the file.
    pub name: String,
    /// Its dimensions, row-major: elements of the last one are adjacent. A scalar has none.
    pub shape: Vec<usize>,
    /// The number format of its elements, by the file's own name.
    pub dtype: String,
    /// The same as a format of ours; None if there is none, as for f64, whole numbers and booleans.
    pub format: Option<NumberFormat>,
    /// Whether its elements can be read as f32: not whole numbers, not booleans.
    pub is_float: bool,
    /// The bytes of its elements in the file.
    pub file_bytes: u64,
}

impl StoredTensor {
    /// The number of its elements; None if no memory could hold them.
    pub fn n_elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
    }
}

/// Open files of tensors; what they claim of their tensors has been compared with their sizes.
///
/// Several threads may read at once.
pub trait TensorSource: Send + Sync {
    /// Every tensor, in the file's order.
    fn tensors(&self) -> &[StoredTensor];

    /// Overwrites `out` with the elements of tensor `index`, row-major and converted to f32.
    ///
    /// # Errors
    /// If its elements are no floats, or the system refuses.
    ///
    /// # Panics
    /// If there is no such tensor, or `out` does not have its number of elements.
    fn read(&self, index: usize, out: &mut [f32]) -> Result<(), CheckpointError>;

    /// Overwrites `out` with the elements of tensor `index`, row-major and in the file's own number format.
    ///
    /// [`dequantize`](crate::quant::dequantize) of them, where the tensor has a [`format`](StoredTensor::format), gives what
    /// [`read`](TensorSource::read) gives.
    ///
    /// # Errors
    /// If the system refuses.
    ///
    /// # Panics
    /// If there is no such tensor, or `out` does not have its [`file_bytes`](StoredTensor::file_bytes).
    fn read_raw(&self, index: usize, out: &mut [u8]) -> Result<(), CheckpointError>;
}
