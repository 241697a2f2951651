//! The division of arrays into tasks, by their sizes only, so that results do not depend on the number of threads.

use crate::disjoint_mut::DisjointMut;
use crate::pool::Pool;

/// Number of elements per task.
pub(crate) const TASK_ELEMENTS: usize = 32 * 1024;
/// Number of columns per task, where a task sums over all rows.
pub(crate) const COLUMNS: usize = 64;

/// Divides `y` [R, cols] into blocks of rows and runs `f(first_row, block)` for each, on all threads.
pub(crate) fn for_rows(pool: &Pool, y: &mut [f32], cols: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    assert!(cols > 0 && y.len().is_multiple_of(cols), "rows of {cols} in {} elements", y.len());
    let rows = y.len() / cols;
    let block = (TASK_ELEMENTS / cols).max(1);
    let y = DisjointMut::new(y);
    pool.run(rows.div_ceil(block), |task| {
        let (from, to) = (task * block, ((task + 1) * block).min(rows));
        // SAFETY: blocks of rows do not overlap.
        f(from, unsafe { y.part(from * cols, to * cols) });
    });
}
