//! An allocator for programs that ends them with an error message where the system refuses memory.
//!
//! Rust's own answer is to abort: with a signal, and without a remedy. A program checks in advance what it will need; this
//! is for what no plan contains.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator; where the system refuses memory, it prints an error and a hint on standard error and ends the
/// process with exit code 1. Nothing is unwound and no destructor runs, as after a kill.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReportingAlloc;

// SAFETY: every call is passed on to the system's allocator, whose results are returned unchanged.
unsafe impl GlobalAlloc for ReportingAlloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        checked(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        checked(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        checked(unsafe { System.realloc(memory, layout, new_size) }, new_size)
    }
}

#[inline(always)]
fn checked(memory: *mut u8, n_bytes: usize) -> *mut u8 {
    if memory.is_null() {
        refused(n_bytes);
    }
    memory
}

/// Reports the refusal and ends the process. It must not allocate.
#[cfg(unix)]
#[cold]
fn refused(n_bytes: usize) {
    use std::sync::atomic::{AtomicBool, Ordering};
    static IS_REPORTED: AtomicBool = AtomicBool::new(false);
    if IS_REPORTED.swap(true, Ordering::SeqCst) {
        // Another thread is reporting, and ends the process.
        loop {
            std::thread::yield_now();
        }
    }
    let mut digits = [0; 20];
    let parts: [&[u8]; 3] = [
        b"error: the memory is exhausted: the system refused another ",
        decimal(n_bytes, &mut digits),
        b" bytes\nhint: free some memory, or raise the limit of this process or container (see ulimit -v); or use a smaller \
          model, context, batch or text\n",
    ];
    for part in parts {
        // SAFETY: the pointer and the length are those of a slice. There is nobody to tell if it cannot be written.
        let _ = unsafe { libc::write(2, part.as_ptr().cast(), part.len()) };
    }
    // SAFETY: it does not return, and runs no code of this process.
    unsafe { libc::_exit(1) }
}

/// Other systems keep Rust's own answer.
#[cfg(not(unix))]
fn refused(_: usize) {}

/// The decimal digits of a number, at the end of `digits`.
#[cfg(unix)]
fn decimal(mut n: usize, digits: &mut [u8; 20]) -> &[u8] {
    let mut from = digits.len();
    loop {
        from -= 1;
        digits[from] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            return &digits[from..];
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_digits() {
        let text = |n: usize| String::from_utf8(decimal(n, &mut [0; 20]).to_vec()).unwrap();
        for n in [0, 7, 10, 1234567890, usize::MAX] {
            assert_eq!(text(n), n.to_string());
        }
    }
}
