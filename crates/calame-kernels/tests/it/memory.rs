//! The memory that buffers take, and passes over memory.

use calame_kernels::{AlignedVec, Pool, all_finite, copy, fill, zero_nonzero};

use crate::support::{for_every_pool, nans, numbers};

/// The anonymous memory of this process in bytes.
#[cfg(target_os = "linux")]
fn held() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
#[cfg(target_os = "linux")]
fn pieces_of_a_sparse_buffer_take_no_large_pages() {
    const HUGE_PAGE: usize = (2 << 20) / size_of::<f32>();
    let mut buffer = AlignedVec::sparse_zeros(512 * HUGE_PAGE);
    let before = held();
    buffer.iter_mut().step_by(HUGE_PAGE).for_each(|x| *x = 1.0);
    // It would be 1 GB with huge pages and is 2 MB without; other tests run at the same time.
    let taken = held().saturating_sub(before);
    assert!(taken < 512 << 20, "{taken} bytes");
    assert_eq!(buffer.iter().step_by(HUGE_PAGE).sum::<f32>(), 512.0);
}

#[test]
#[cfg(target_os = "linux")]
fn setting_to_zero_touches_no_page_of_zeros() {
    const MEGABYTE: usize = (1 << 20) / size_of::<f32>();
    let mut buffer = AlignedVec::sparse_zeros(256 * MEGABYTE);
    for (i, value) in [(0, 1.0), (MEGABYTE, -0.0), (2 * MEGABYTE - 1, f32::NAN)] {
        buffer[i] = value;
    }
    let before = held();
    zero_nonzero(&mut buffer);
    let taken = held().saturating_sub(before);
    // It would be 256 MB if every page were written; other tests run at the same time.
    assert!(taken < 128 << 20, "{taken} bytes");
    assert!(buffer.iter().all(|x| x.to_bits() == 0));
}

#[test]
fn infinities_and_nans_are_found_anywhere() {
    for n in [1, 7, 16, 17, 65, 4096, 5000] {
        let x = numbers(1, n);
        assert!(all_finite(&x));
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, n / 2, n - 1] {
                let mut x = x.clone();
                x[at] = bad;
                assert!(!all_finite(&x), "{bad} at {at} of {n}");
            }
        }
    }
    assert!(all_finite(&[f32::MAX, f32::MIN, -0.0, f32::MIN_POSITIVE / 2.0]) && all_finite(&[]));
}

#[test]
fn fills_and_copies_reach_every_element() {
    for n in [0, 1, 7, 16, 17, 65, 70_001] {
        let x = numbers(1, n);
        for_every_pool(|pool: &Pool| {
            let mut y = nans(n);
            copy(pool, &x, &mut y);
            assert!(x == y, "copy of {n}");
            fill(pool, -1.5, &mut y);
            assert!(y == vec![-1.5; n], "fill of {n}");
        });
    }
}
