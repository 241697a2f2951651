//! What buffers take of memory.

use calame_kernels::AlignedVec;

/// The memory that this process holds, in bytes.
fn held() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn pieces_of_a_sparse_buffer_take_no_large_pages() {
    const HUGE_PAGE: usize = (2 << 20) / size_of::<f32>();
    let mut buffer = AlignedVec::sparse_zeros(512 * HUGE_PAGE);
    let before = held();
    buffer.iter_mut().step_by(HUGE_PAGE).for_each(|x| *x = 1.0);
    // A gigabyte with huge pages, two megabytes without; other tests run beside it.
    let taken = held().saturating_sub(before);
    assert!(taken < 512 << 20, "{taken} bytes");
    assert_eq!(buffer.iter().step_by(HUGE_PAGE).sum::<f32>(), 512.0);
}
