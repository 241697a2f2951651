//! What every format of weights comes down to: named tensors in files, read one at a time by position.

use super::CheckpointError;

/// A tensor as a file holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTensor {
    /// Its key in the file.
    pub name: String,
    /// Its dimensions, row-major: the last one's elements are neighbours. A scalar has none.
    pub shape: Vec<usize>,
    /// The format of its elements, in the file's own words.
    pub dtype: String,
    /// Whether its elements are numbers that f32 can stand for: not whole numbers, not booleans.
    pub is_float: bool,
    /// Bytes that it takes in the file.
    pub file_bytes: u64,
}

impl StoredTensor {
    /// The number of its elements; None if no memory could hold them.
    pub fn n_elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
    }
}

/// Open files of tensors; what they claim of their tensors has been compared with their sizes.
pub(super) trait TensorSource: Send + Sync {
    /// Every tensor, in the file's order.
    fn tensors(&self) -> &[StoredTensor];

    /// Reads tensor `index`, row-major and converted to f32, over all of `out`, which has its number of elements.
    ///
    /// Several threads may read at once.
    fn read(&self, index: usize, out: &mut [f32]) -> Result<(), CheckpointError>;
}
