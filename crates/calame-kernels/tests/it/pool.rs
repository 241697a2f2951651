//! Tests of the thread pool.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use calame_kernels::{Isa, Pool};

#[test]
fn every_task_runs_once() {
    for n_threads in [1, 2, 5] {
        let pool = Pool::new(n_threads, Isa::Portable);
        for n_tasks in [0, 1, 2, 7, 1000] {
            let counts: Vec<AtomicUsize> = (0..n_tasks).map(|_| AtomicUsize::new(0)).collect();
            for _ in 0..20 {
                pool.run(n_tasks, |i| {
                    counts[i].fetch_add(1, Ordering::Relaxed);
                });
            }
            assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 20));
        }
    }
}

/// Waits until `holds`; panics where it never does.
fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited too long: {what}");
        std::thread::yield_now();
    }
}

/// Each of two tasks waits for the other: the calling thread alone would not end.
#[test]
fn a_sleeping_worker_wakes() {
    let pool = Pool::new(2, Isa::Portable);
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(30));
        let n_begun = AtomicUsize::new(0);
        pool.run(2, |_| {
            n_begun.fetch_add(1, Ordering::SeqCst);
            wait_until("a worker", || n_begun.load(Ordering::SeqCst) == 2);
        });
    }
}

#[test]
fn a_panic_in_a_task_reaches_the_caller_and_the_pool_remains_usable() {
    let pool = Pool::new(3, Isa::Portable);
    for n_tasks in [1, 50] {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.run(n_tasks, |i| assert!(i != n_tasks - 1, "task {i} fails on purpose"));
        }));
        assert!(outcome.is_err());
        let count = AtomicUsize::new(0);
        pool.run(10, |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 10);
    }
}

#[test]
fn concurrent_callers_run_one_after_another() {
    let pool = Pool::new(2, Isa::Portable);
    let total = AtomicUsize::new(0);
    // Tasks under way, of each caller.
    let n_inside = [const { AtomicUsize::new(0) }; 4];
    std::thread::scope(|scope| {
        for caller in 0..4 {
            let (pool, total, n_inside) = (&pool, &total, &n_inside);
            scope.spawn(move || {
                for _ in 0..100 {
                    pool.run(8, |_| {
                        n_inside[caller].fetch_add(1, Ordering::SeqCst);
                        std::thread::yield_now();
                        let others = (0..4).filter(|&other| other != caller);
                        let n_others: usize = others.map(|other| n_inside[other].load(Ordering::SeqCst)).sum();
                        assert_eq!(n_others, 0, "tasks of another caller beside those of {caller}");
                        total.fetch_add(1, Ordering::Relaxed);
                        n_inside[caller].fetch_sub(1, Ordering::SeqCst);
                    });
                }
            });
        }
    });
    assert_eq!(total.into_inner(), 4 * 100 * 8);
}

#[test]
fn a_task_that_calls_its_own_pool_panics() {
    for n_threads in [1, 3] {
        let (pool, other) = (Pool::new(n_threads, Isa::Portable), Pool::new(2, Isa::Portable));
        let count = AtomicUsize::new(0);
        let add = |_| {
            count.fetch_add(1, Ordering::Relaxed);
        };
        for n_tasks in [1, 8] {
            let messages = std::sync::Mutex::new(Vec::new());
            pool.run(n_tasks, |_| {
                // Another pool may be called; afterwards the thread is still in a task of the first.
                other.run(2, add);
                let call = || pool.run(1, |_| unreachable!("a task inside a task"));
                let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).unwrap_err();
                messages.lock().unwrap().push(*panic.downcast::<&str>().unwrap());
            });
            let messages = messages.into_inner().unwrap();
            assert_eq!(messages.len(), n_tasks);
            assert!(messages.iter().all(|m| m.starts_with("a task called the thread pool that it runs on")));
        }
        pool.run(3, add);
        assert_eq!(count.into_inner(), 2 * (1 + 8) + 3);
    }
}

#[test]
fn scratch_starts_on_a_cache_line() {
    let pool = Pool::new(2, Isa::Portable);
    pool.run_with_scratch(16, |i, scratch| {
        let piece = scratch.resize_uninit(17 + i);
        assert_eq!(piece.len(), 17 + i);
        assert_eq!(piece.as_ptr().align_offset(64), 0);
    });
}

/// Dropping the payload of the first panic panics again, on a worker or on the calling thread while a worker still runs.
#[test]
fn a_panic_whose_payload_panics_when_dropped_does_not_stop_the_pool() {
    struct Payload;
    impl Drop for Payload {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic!("the payload panics too");
            }
        }
    }
    let pool = Pool::new(3, Isa::Portable);
    for _ in 0..20 {
        let n_done = AtomicUsize::new(0);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.run(30, |i| {
                if i % 10 == 0 {
                    std::panic::panic_any(Payload);
                }
                std::thread::sleep(Duration::from_micros(200));
                n_done.fetch_add(1, Ordering::SeqCst);
            });
        }));
        let message = *outcome.unwrap_err().downcast::<&str>().unwrap();
        assert_eq!(message, "a task of a parallel operation panicked; see its message above");
        // No task runs any more.
        let before = n_done.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(n_done.load(Ordering::SeqCst), before);
        let count = AtomicUsize::new(0);
        pool.run(10, |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 10);
    }
}
