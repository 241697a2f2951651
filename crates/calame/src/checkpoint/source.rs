//! The common interface of all weight formats: named tensors in files, read one at a time by position.

use super::CheckpointError;

/// Description of a tensor in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTensor {
    /// Name of the tensor in the file.
    pub name: String,
    /// Dimensions, row-major: elements along the last one are adjacent. Empty for a scalar.
    pub shape: Vec<usize>,
    /// Number format of the elements, as the file names it.
    pub dtype: String,
    /// Whether the elements can be converted to f32: neither integers nor booleans.
    pub is_float: bool,
    /// Size of the tensor in the file in bytes.
    pub file_bytes: u64,
}

impl StoredTensor {
    /// Number of elements; `None` if it overflows.
    pub fn n_elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
    }
}

/// Open files of tensors, whose descriptions have been checked against the files' sizes.
pub(super) trait TensorSource: Send + Sync {
    /// All tensors, in file order.
    fn tensors(&self) -> &[StoredTensor];

    /// Reads tensor `index` into `out`, overwriting it: row-major, converted to f32. `out` has the tensor's number of
    /// elements.
    ///
    /// May be called from several threads at once.
    fn read(&self, index: usize, out: &mut [f32]) -> Result<(), CheckpointError>;
}
