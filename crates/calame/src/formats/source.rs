//! The common interface of all weight formats: named tensors in files, read one at a time by position.

use super::CheckpointError;
use crate::quant::NumberFormat;

/// Description of a tensor in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTensor {
    /// Name of the tensor in the file.
    pub name: String,
    /// Dimensions, row-major: elements along the last one are adjacent. Empty for a scalar.
    pub shape: Vec<usize>,
    /// Number format of the elements, as the file names it.
    pub dtype: String,
    /// The same as one of our formats; `None` if there is none, as for f64, integers and booleans.
    pub format: Option<NumberFormat>,
    /// Whether the elements can be converted to f32: neither integers nor booleans.
    pub is_float: bool,
    /// Size of the elements in the file in bytes.
    pub file_bytes: u64,
}

impl StoredTensor {
    /// Number of elements; `None` if it overflows.
    pub fn n_elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
    }

    /// Asserts that the file stores `n` bytes of the tensor from `start` on.
    ///
    /// # Panics
    /// If the tensor ends before.
    pub(super) fn check_part(&self, start: u64, n: usize) {
        let end = start.checked_add(n as u64);
        let StoredTensor { name, file_bytes, .. } = self;
        assert!(end.is_some_and(|end| end <= *file_bytes), "{n} bytes from {start} of {name}, which has {file_bytes}");
    }

    /// Whether the tensor has no elements.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }
}

/// Open files of tensors, whose descriptions have been checked against the files' sizes.
///
/// Several threads may read at once.
pub trait TensorSource: Send + Sync {
    /// All tensors, in file order.
    fn tensors(&self) -> &[StoredTensor];

    /// Whether two tensors of the same shape share their memory, as a tied head and the token embedding do in PyTorch.
    fn shares(&self, _a: usize, _b: usize) -> bool {
        false
    }

    /// Reads tensor `index` into `out`, overwriting it: row-major, converted to f32.
    ///
    /// # Errors
    /// If its elements are not floats, or the system refuses.
    ///
    /// # Panics
    /// If the tensor does not exist, or `out` does not have its number of elements.
    fn read(&self, index: usize, out: &mut [f32]) -> Result<(), CheckpointError>;

    /// Reads tensor `index` into `out`, overwriting it: row-major, in the file's own number format.
    ///
    /// If the tensor has a [`format`](StoredTensor::format), [`dequantize`](crate::quant::dequantize) converts these bytes
    /// to the result of [`read`](TensorSource::read).
    ///
    /// # Errors
    /// If the system refuses.
    ///
    /// # Panics
    /// If the tensor does not exist, or `out` does not have its [`file_bytes`](StoredTensor::file_bytes).
    fn read_raw(&self, index: usize, out: &mut [u8]) -> Result<(), CheckpointError>;

    /// Whether [`read_raw_at`](TensorSource::read_raw_at) reads parts of tensor `index`.
    fn has_parts(&self, _index: usize) -> bool {
        true
    }

    /// As [`read_raw`](TensorSource::read_raw) for the bytes of tensor `index` from `start` on.
    ///
    /// # Errors
    /// If the system refuses.
    ///
    /// # Panics
    /// If the tensor does not exist or has no parts, or ends before `out` is full.
    fn read_raw_at(&self, index: usize, start: u64, out: &mut [u8]) -> Result<(), CheckpointError>;
}
