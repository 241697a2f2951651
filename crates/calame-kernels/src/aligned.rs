//! Buffers that start on a cache line.

use std::ops::{Deref, DerefMut};

/// f32 in a cache line, the widest vector.
const LINE: usize = 16;

/// A buffer of f32 that starts on a cache line, so that no vector straddles two.
///
/// Fresh elements are zero, and the system hands their memory out only when they are first touched.
#[derive(Debug, Default)]
pub struct AlignedVec {
    raw: Vec<f32>,
    start: usize,
    len: usize,
}

impl AlignedVec {
    /// `len` zeros.
    pub fn zeros(len: usize) -> AlignedVec {
        if len == 0 {
            return AlignedVec::default();
        }
        let raw = vec![0.0; len + LINE];
        ask_for_huge_pages(&raw);
        let start = raw.as_ptr().align_offset(64);
        assert!(start < LINE, "an f32 buffer cannot be aligned to a cache line");
        AlignedVec { raw, start, len }
    }

    /// Its first `len` elements, after replacing it by a longer one if it is too short; their values are arbitrary.
    pub fn first(&mut self, len: usize) -> &mut [f32] {
        if self.len < len {
            *self = AlignedVec::zeros(len);
        }
        &mut self[..len]
    }
}

/// Asks the system to back a large fresh buffer by huge pages: at 4 kB each, the 2.6 GB of a 163M model's training are
/// 640,000 page faults, and every pass over them misses the translation cache.
#[cfg(target_os = "linux")]
fn ask_for_huge_pages(buffer: &[f32]) {
    const PAGE: usize = 4096;
    const HUGE_PAGE: usize = 2 << 20;
    let bytes = size_of_val(buffer);
    if bytes < 2 * HUGE_PAGE {
        return;
    }
    let start = buffer.as_ptr() as usize;
    let (from, to) = (start.next_multiple_of(PAGE), (start + bytes) / PAGE * PAGE);
    // SAFETY: whole pages inside a live allocation; the advice changes how they are backed, not what they hold.
    // That a system refuses it is no error: the pages are small then.
    unsafe { libc::madvise(from as *mut libc::c_void, to - from, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn ask_for_huge_pages(_: &[f32]) {}

impl Deref for AlignedVec {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.raw[self.start..self.start + self.len]
    }
}

impl DerefMut for AlignedVec {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.raw[self.start..self.start + self.len]
    }
}

impl Clone for AlignedVec {
    fn clone(&self) -> AlignedVec {
        let mut copy = AlignedVec::zeros(self.len);
        copy.copy_from_slice(self);
        copy
    }
}
