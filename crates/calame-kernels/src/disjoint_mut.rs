//! A slice that tasks share, each writing its own part.

/// A mutable slice that several tasks write disjoint parts of, or read while none writes.
#[derive(Clone, Copy)]
pub(crate) struct DisjointMut<T> {
    start: *mut T,
    len: usize,
}

// SAFETY: access goes through `part`, whose callers promise disjoint ranges, or `read`, which asks for T: Sync.
unsafe impl<T: Send> Sync for DisjointMut<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for DisjointMut<T> {}

impl<T> DisjointMut<T> {
    pub fn new(slice: &mut [T]) -> DisjointMut<T> {
        DisjointMut { start: slice.as_mut_ptr(), len: slice.len() }
    }

    /// Elements `from..to`, to write.
    ///
    /// # Safety
    /// The slice given to `new` is still borrowed, and while the part lives, no other live part overlaps it, whether made
    /// here or by [`DisjointMut::read`], and nobody uses the addresses of its elements.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn part<'a>(&self, from: usize, to: usize) -> &'a mut [T] {
        assert!(from <= to && to <= self.len, "part {from}..{to} of {}", self.len);
        // SAFETY: inside the slice; the caller promises that nobody else has it.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(from), to - from) }
    }

    /// Elements `from..to`, to read; other tasks may read them too.
    ///
    /// # Safety
    /// The slice given to `new` is still borrowed, and nobody writes these elements, or has them from [`DisjointMut::part`],
    /// while the result lives.
    pub unsafe fn read<'a>(&self, from: usize, to: usize) -> &'a [T]
    where
        T: Sync,
    {
        assert!(from <= to && to <= self.len, "part {from}..{to} of {}", self.len);
        // SAFETY: inside the slice; the caller promises that nobody writes it.
        unsafe { std::slice::from_raw_parts(self.start.add(from), to - from) }
    }

    /// The address of element `i`.
    pub fn at(&self, i: usize) -> *mut T {
        assert!(i <= self.len);
        // SAFETY: inside the slice or one past its end.
        unsafe { self.start.add(i) }
    }
}
