//! How much work space an operation takes, known from its sizes alone.

/// Floats of a pool's work space that an operation uses. A pool keeps the most that any operation has asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkspaceSize {
    /// Packed panels of a product's left operand, which all threads share.
    pub packed_a: usize,
    /// Packed panels of its right operand.
    pub packed_b: usize,
    /// Each thread's own.
    pub per_thread: usize,
}

impl WorkspaceSize {
    /// What serves both.
    #[must_use]
    pub fn max(self, other: WorkspaceSize) -> WorkspaceSize {
        WorkspaceSize {
            packed_a: self.packed_a.max(other.packed_a),
            packed_b: self.packed_b.max(other.packed_b),
            per_thread: self.per_thread.max(other.per_thread),
        }
    }

    /// Bytes that a pool of `n_threads` holds.
    pub fn bytes(&self, n_threads: usize) -> u64 {
        4 * (self.packed_a + self.packed_b + n_threads * self.per_thread) as u64
    }
}
