//! Shared access to a mutable slice whose tasks write disjoint parts.

/// A mutable slice of which several tasks write disjoint parts, or which they read while no task writes.
#[derive(Clone, Copy)]
pub(crate) struct DisjointMut<T> {
    start: *mut T,
    len: usize,
}

// SAFETY: access goes through `part`, whose callers promise disjoint ranges, or `read`, which requires T: Sync.
unsafe impl<T: Send> Sync for DisjointMut<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for DisjointMut<T> {}

impl<T> DisjointMut<T> {
    pub fn new(slice: &mut [T]) -> DisjointMut<T> {
        DisjointMut { start: slice.as_mut_ptr(), len: slice.len() }
    }

    /// Elements `from..to`, for writing.
    ///
    /// # Safety
    /// The slice passed to `new` is still borrowed. While the result is alive, no overlapping part returned by this
    /// function or by [`DisjointMut::read`] is, and its elements are not accessed through [`DisjointMut::at`].
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn part<'a>(&self, from: usize, to: usize) -> &'a mut [T] {
        assert!(from <= to && to <= self.len, "part {from}..{to} of {}", self.len);
        // SAFETY: inside the slice; the caller promises that no one else accesses it.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(from), to - from) }
    }

    /// Elements `from..to`, for reading; other tasks may read them too.
    ///
    /// # Safety
    /// The slice passed to `new` is still borrowed. While the result is alive, its elements are not written and no
    /// overlapping part returned by [`DisjointMut::part`] is alive.
    pub unsafe fn read<'a>(&self, from: usize, to: usize) -> &'a [T]
    where
        T: Sync,
    {
        assert!(from <= to && to <= self.len, "part {from}..{to} of {}", self.len);
        // SAFETY: inside the slice; the caller promises that it is not written.
        unsafe { std::slice::from_raw_parts(self.start.add(from), to - from) }
    }

    /// The address of element `i`.
    pub fn at(&self, i: usize) -> *mut T {
        assert!(i <= self.len);
        // SAFETY: inside the slice or one past its end.
        unsafe { self.start.add(i) }
    }
}
