//! Buffers that start on a cache line.
//!
//! A sparse buffer has pages of 4 kB instead of 2 MB: a short text has a thousand of 50,257 tokens, whose rows are in nearly
//! every huge page of an embedding's gradient. The report's model takes 2.5 GB that way instead of 2.9.

use std::ops::{Deref, DerefMut};

/// f32 in a cache line, the widest vector.
const LINE: usize = 16;

/// A buffer of f32 that starts on a cache line, so that no vector load crosses from one line into the next.
///
/// New elements are zero. The operating system provides their memory when they are first touched.
#[derive(Debug, Default)]
pub struct AlignedVec {
    raw: Vec<f32>,
    start: usize,
    len: usize,
}

impl AlignedVec {
    /// Allocates `len` zeros, on huge pages where the system has them.
    pub fn zeros(len: usize) -> AlignedVec {
        AlignedVec::zeros_in(len, Pages::Huge)
    }

    /// Allocates `len` zeros on small pages, for buffers of which only scattered pieces are ever touched: each piece
    /// takes 4 kB of memory, where a huge page would take 2 MB.
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

    /// Returns the first `len` elements, with arbitrary values; reallocates if the buffer is shorter. It never shrinks.
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

/// Asks the system to back a large new buffer by pages of this kind.
///
/// Huge pages matter: at 4 kB per page, training the 163M model (2.6 GB) takes 640,000 page faults, and every pass over
/// the memory misses the translation cache.
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
    // SAFETY: whole pages inside a live allocation; the advice changes how they are backed, not what they contain.
    // The result is ignored: if the system refuses, the pages keep their default size.
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
