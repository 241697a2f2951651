//! The distribution of an operation's tasks among threads.

use std::sync::atomic::{AtomicU64, Ordering};

/// Tasks divided among threads: each thread has a run of consecutive tasks, and takes tasks of others when its own are
/// done.
///
/// A thread therefore processes the same part of one operation's output and of the next one's input, which is still in
/// its cache, and cache lines do not move between cores. (Products whose packed panels alternate between two cores are
/// 1 to 2 per cent slower.)
pub(crate) struct WorkQueue {
    runs: Box<[Run]>,
}

/// The remaining tasks of a thread: the first in the upper half, the end in the lower half.
///
/// It is alone in a pair of cache lines, because processors fetch them in pairs.
#[repr(align(128))]
struct Run(AtomicU64);

impl WorkQueue {
    pub fn new(n_threads: usize) -> WorkQueue {
        WorkQueue { runs: (0..n_threads).map(|_| Run(AtomicU64::new(0))).collect() }
    }

    /// Divides tasks 0..n_tasks among the threads. No thread may take tasks meanwhile.
    ///
    /// # Panics
    /// If there are more than `u32::MAX` tasks.
    pub fn fill(&self, n_tasks: usize) {
        assert!(u32::try_from(n_tasks).is_ok(), "a parallel operation of {n_tasks} tasks");
        let n = self.runs.len();
        for (t, run) in self.runs.iter().enumerate() {
            let (first, end) = (t * n_tasks / n, (t + 1) * n_tasks / n);
            run.0.store((first as u64) << 32 | end as u64, Ordering::Relaxed);
        }
    }

    /// Takes the next task for a thread: the first of its own, or else the last of the next thread that has any.
    pub fn next(&self, thread: usize) -> Option<usize> {
        let n = self.runs.len();
        self.runs[thread].take_first().or_else(|| (1..n).find_map(|i| self.runs[(thread + i) % n].take_last()))
    }

    /// Removes the tasks that have not been taken.
    pub fn clear(&self) {
        self.runs.iter().for_each(|run| run.0.store(0, Ordering::Relaxed));
    }
}

impl Run {
    fn take_first(&self) -> Option<usize> {
        self.take(|first, end| (first + 1, end)).map(|(first, _)| first as usize)
    }

    fn take_last(&self) -> Option<usize> {
        self.take(|first, end| (first, end - 1)).map(|(_, end)| end as usize - 1)
    }

    /// Replaces the run by `rest` of it and returns the previous one; `None` if it was empty.
    fn take(&self, rest: impl Fn(u32, u32) -> (u32, u32)) -> Option<(u32, u32)> {
        let halves = |run: u64| ((run >> 32) as u32, run as u32);
        let left = |run: u64| {
            let (first, end) = halves(run);
            (first < end).then(|| {
                let (first, end) = rest(first, end);
                u64::from(first) << 32 | u64::from(end)
            })
        };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).ok().map(halves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_is_taken_once() {
        for (n_threads, n_tasks) in [(1, 5), (2, 7), (3, 2), (4, 0), (3, 1000)] {
            let queue = WorkQueue::new(n_threads);
            queue.fill(n_tasks);
            let mut taken: Vec<usize> = (0..).map_while(|i| queue.next(i * i % n_threads)).collect();
            taken.sort_unstable();
            assert_eq!(taken, (0..n_tasks).collect::<Vec<_>>(), "{n_tasks} tasks for {n_threads} threads");
        }
    }

    #[test]
    fn a_thread_takes_its_own_tasks_first_and_then_the_last_ones_of_others() {
        let queue = WorkQueue::new(2);
        queue.fill(6);
        assert_eq!([0; 6].map(|thread| queue.next(thread).unwrap()), [0, 1, 2, 5, 4, 3]);
        queue.fill(6);
        assert_eq!(queue.next(1), Some(3));
        queue.clear();
        assert_eq!(queue.next(0), None);
    }
}
