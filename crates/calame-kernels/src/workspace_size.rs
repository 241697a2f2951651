//! The size of an operation's work space, as a function of the operation's sizes.

/// The work space of an operation, in floats. A pool keeps the largest that any operation has needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkspaceSize {
    /// Packed panels of a product's left operand, shared by all threads.
    pub packed_a: usize,
    /// Packed panels of a product's right operand, shared by all threads.
    pub packed_b: usize,
    /// The work space of each thread.
    pub per_thread: usize,
}

impl WorkspaceSize {
    /// The size that suffices for both operations.
    #[must_use]
    pub fn max(self, other: WorkspaceSize) -> WorkspaceSize {
        WorkspaceSize {
            packed_a: self.packed_a.max(other.packed_a),
            packed_b: self.packed_b.max(other.packed_b),
            per_thread: self.per_thread.max(other.per_thread),
        }
    }

    /// The size in bytes on a pool of `n_threads` threads.
    pub fn bytes(&self, n_threads: usize) -> u64 {
        let shared = (self.packed_a as u64).saturating_add(self.packed_b as u64);
        (n_threads as u64).saturating_mul(self.per_thread as u64).saturating_add(shared).saturating_mul(4)
    }
}
