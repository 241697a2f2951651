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
        AlignedVec::zeros_in(len, Pages::Huge)
    }

    /// `len` zeros of which few may ever be touched, in pieces far from each other: they take 4 kB a piece then, where huge
    /// pages would take 2 MB.
    pub fn sparse_zeros(len: usize) -> AlignedVec {
        AlignedVec::zeros_in(len, Pages::Small)
    }

    fn zeros_in(len: usize, pages: Pages) -> AlignedVec {
        if len == 0 {
            return AlignedVec::default();
        }
        let raw = vec![0.0; len + LINE];
        ask_for_pages(&raw, pages);
        let start = raw.as_ptr().align_offset(64);
        assert!(start < LINE, "an f32 buffer cannot be aligned to a cache line");
        AlignedVec { raw, start, len }
    }

    /// Its first `len` elements, after replacing it by a longer one if it is too short; their values are arbitrary.
    pub fn resize_uninit(&mut self, len: usize) -> &mut [f32] {
        if self.len < len {
            *self = AlignedVec::zeros(len);
        }
        &mut self[..len]
    }
}

#[derive(Clone, Copy)]
enum Pages {
    Huge,
    Small,
}

/// Asks the system to back a large fresh buffer by pages of this kind. Huge ones, since at 4 kB each the 2.6 GB of a 163M
/// model's training are 640,000 page faults, and every pass over them misses the translation cache.
#[cfg(target_os = "linux")]
fn ask_for_pages(buffer: &[f32], pages: Pages) {
    const PAGE: usize = 4096;
    const HUGE_PAGE: usize = 2 << 20;
    let bytes = size_of_val(buffer);
    if bytes < 2 * HUGE_PAGE {
        return;
    }
    let start = buffer.as_ptr() as usize;
    let (from, to) = (start.next_multiple_of(PAGE), (start + bytes) / PAGE * PAGE);
    let advice = match pages {
        Pages::Huge => libc::MADV_HUGEPAGE,
        Pages::Small => libc::MADV_NOHUGEPAGE,
    };
    // SAFETY: whole pages inside a live allocation; the advice changes how they are backed, not what they hold.
    // That a system refuses it is no error: the pages are what they are then.
    unsafe { libc::madvise(from as *mut libc::c_void, to - from, advice) };
}

#[cfg(not(target_os = "linux"))]
fn ask_for_pages(_: &[f32], _: Pages) {}

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
