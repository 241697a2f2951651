//! The thread pool: a fixed set of threads runs tasks numbered 0..n without allocating memory.
//!
//! Work is divided by its shape into tasks that each write their own part of the output. Results therefore depend
//! neither on the number of threads nor on which thread runs which task.

use std::cell::{Cell, UnsafeCell};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};

use crate::aligned::AlignedVec;
use crate::isa::Isa;
use crate::work_queue::WorkQueue;

/// How often a waiting thread polls before it sleeps: about 70 µs, longer than a wake-up takes.
///
/// In a training step, operations follow one another within microseconds. But if other programs use the processor too,
/// a spinning thread may occupy the core that the thread it waits for needs.
const SPINS: usize = 4_000;

/// A fixed set of threads, and the instruction set that kernels use on them.
///
/// The thread that calls [`Pool::run`] runs tasks too: a pool of n threads starts n − 1. One operation runs at a time;
/// a second caller waits until it is done. A task must not call its own pool, directly or through a kernel: it would
/// wait for itself, so the call panics. A task may call another pool unless a task there calls back, which would be a
/// deadlock.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Locked while an operation runs; it contains the work space that the threads of an operation share.
    workspace: Mutex<Workspace>,
    isa: Isa,
}

/// Work space that is kept between operations: an operation allocates only if it needs more than any before it.
pub(crate) struct Workspace {
    pub packed_a: AlignedVec,
    pub packed_b: AlignedVec,
}

/// Exclusive use of the pool for an operation of one or several phases.
pub(crate) struct PoolGuard<'a> {
    shared: &'a Shared,
    workspace: MutexGuard<'a, Workspace>,
}

thread_local! {
    /// The pool whose task this thread is running, as the address of its `Shared`; null outside tasks. While a task
    /// calls another pool, this is the other pool's address.
    static TASK_OF: Cell<*const ()> = const { Cell::new(std::ptr::null()) };
}

/// Runs the phases of an operation, one at a time.
pub(crate) struct Phases<'a> {
    shared: &'a Shared,
}

/// Marks this thread as running a task of a pool for the lifetime of the value.
struct InTask {
    before: *const (),
}

impl InTask {
    fn of(shared: &Shared) -> InTask {
        InTask { before: TASK_OF.replace(std::ptr::from_ref(shared).cast()) }
    }
}

impl Drop for InTask {
    fn drop(&mut self) {
        TASK_OF.set(self.before);
    }
}

type Task<'a> = dyn Fn(usize, &mut AlignedVec) + Sync + 'a;

struct Shared {
    /// The current operation; written by the caller before it increments `generation`, read by workers afterwards.
    task: UnsafeCell<*const Task<'static>>,
    generation: AtomicUsize,
    /// The thread that runs the operation, which the last worker to finish wakes; written when `task` is.
    caller: UnsafeCell<Option<Thread>>,
    tasks: WorkQueue,
    /// Number of workers that have not finished the current generation.
    active: AtomicUsize,
    n_sleeping: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
    stop: AtomicBool,
    panicked: AtomicBool,
    /// A work space per thread; thread t accesses only its own.
    scratch: Box<[UnsafeCell<AlignedVec>]>,
}

// SAFETY: `task` and `caller` are written only while no worker is active, and read only between the start of a
// generation and the worker's decrement of `active`; only thread t accesses `scratch[t]`.
unsafe impl Sync for Shared {}
// SAFETY: the raw pointer in `task` is dereferenced only while `Pool::run`, which borrows its target, waits.
unsafe impl Send for Shared {}

impl Pool {
    /// A pool of `n_threads` threads, including the calling one, whose kernels use `isa`.
    ///
    /// # Panics
    /// If `n_threads` is 0, if this machine lacks `isa`, or if the system cannot start a thread.
    pub fn new(n_threads: usize, isa: Isa) -> Pool {
        Pool::try_new(n_threads, isa).unwrap_or_else(|error| panic!("Pool::new: the system refused a thread: {error}"))
    }

    /// As [`Pool::new`], where the number of threads is chosen by a user.
    ///
    /// # Errors
    /// If the system cannot start a thread, as under a limit of memory or processes.
    ///
    /// # Panics
    /// If `n_threads` is 0, or if this machine lacks `isa`.
    pub fn try_new(n_threads: usize, isa: Isa) -> io::Result<Pool> {
        assert!(n_threads > 0, "Pool::new: at least one thread is needed");
        assert!(isa.is_available(), "Pool::new: this machine lacks the instruction set {isa}");
        let noop: &Task<'static> = &|_, _| {};
        let shared = Arc::new(Shared {
            task: UnsafeCell::new(noop),
            generation: AtomicUsize::new(0),
            caller: UnsafeCell::new(None),
            tasks: WorkQueue::new(n_threads),
            active: AtomicUsize::new(0),
            n_sleeping: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            scratch: (0..n_threads).map(|_| UnsafeCell::new(AlignedVec::default())).collect(),
        });
        let workspace = Mutex::new(Workspace { packed_a: AlignedVec::default(), packed_b: AlignedVec::default() });
        // Dropped where a thread is refused, which ends those before it.
        let mut pool = Pool { shared, workers: Vec::new(), workspace, isa };
        for t in 1..n_threads {
            let shared = Arc::clone(&pool.shared);
            let thread = std::thread::Builder::new().name(format!("calame-{t}"));
            pool.workers.push(thread.spawn(move || shared.work(t))?);
        }
        Ok(pool)
    }

    /// Number of threads, including the caller's.
    pub fn n_threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// The instruction set that kernels use on this pool.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Runs `task(i)` for every i in 0..n_tasks, on all threads, and returns when all are done.
    ///
    /// # Panics
    /// If a task panics (after all threads have stopped running tasks), or if it is called by a task of this pool.
    pub fn run(&self, n_tasks: usize, task: impl Fn(usize) + Sync) {
        self.lock().run(n_tasks, &|i, _| task(i));
    }

    /// As [`Pool::run`]; each task is also given the work space of its thread, whose content is arbitrary.
    ///
    /// # Panics
    /// As [`Pool::run`].
    pub fn run_with_scratch(&self, n_tasks: usize, task: impl Fn(usize, &mut AlignedVec) + Sync) {
        self.lock().run(n_tasks, &task);
    }

    /// Waits until no operation runs and reserves the pool.
    ///
    /// # Panics
    /// If it is called by a task of this pool.
    pub(crate) fn lock(&self) -> PoolGuard<'_> {
        let shared = &*self.shared;
        assert!(
            TASK_OF.get() != std::ptr::from_ref(shared).cast(),
            "a task called the thread pool that it runs on: call it outside of tasks, or call another pool"
        );
        // A poisoned lock is fine: no operation relies on the content of the work space before it writes it.
        let workspace = self.workspace.lock().unwrap_or_else(PoisonError::into_inner);
        PoolGuard { shared, workspace }
    }
}

impl PoolGuard<'_> {
    /// The shared work space, and what runs phases while it is borrowed.
    pub(crate) fn split(&mut self) -> (&mut Workspace, Phases<'_>) {
        (&mut self.workspace, Phases { shared: self.shared })
    }

    /// Runs an operation of one phase.
    fn run(&mut self, n_tasks: usize, task: &Task<'_>) {
        self.split().1.run(n_tasks, task);
    }
}

impl Phases<'_> {
    /// Runs one phase, as [`Pool::run_with_scratch`] does.
    pub(crate) fn run(&mut self, n_tasks: usize, task: &Task<'_>) {
        let shared = self.shared;
        let n_workers = shared.scratch.len() - 1;
        if n_workers == 0 || n_tasks <= 1 {
            // SAFETY: thread 0's work space belongs to the thread that has locked the pool; `self` is borrowed until
            // this phase ends, so that no other phase runs.
            let scratch = unsafe { &mut *shared.scratch[0].get() };
            let in_task = InTask::of(shared);
            (0..n_tasks).for_each(|i| task(i, scratch));
            drop(in_task);
            self.level_scratch();
            return;
        }
        // SAFETY: only the lifetime is changed; `run` returns after every worker has finished.
        let task = unsafe { std::mem::transmute::<&Task<'_>, &'static Task<'static>>(task) };
        // SAFETY: no worker is active, so no thread reads `task` or `caller`.
        unsafe {
            *shared.task.get() = task;
            *shared.caller.get() = Some(std::thread::current());
        }
        shared.tasks.fill(n_tasks);
        shared.active.store(n_workers, Ordering::Relaxed);
        shared.generation.fetch_add(1, Ordering::SeqCst);
        if shared.n_sleeping.load(Ordering::SeqCst) > 0 {
            let _guard = shared.sleep.lock().unwrap_or_else(PoisonError::into_inner);
            shared.wake.notify_all();
        }
        shared.take_tasks(0, task);
        shared.wait_for_workers();
        if shared.panicked.swap(false, Ordering::Relaxed) {
            panic!("a task of a parallel operation panicked; see its message above");
        }
        self.level_scratch();
    }

    /// Enlarges every thread's work space to the largest: a thread that ran no task of this operation may run one the
    /// next time, and must not allocate then.
    fn level_scratch(&mut self) {
        let mut longest = 0;
        for scratch in &self.shared.scratch {
            // SAFETY: this thread has locked the pool and no worker is active, so no other thread accesses a work
            // space.
            let scratch = unsafe { &*scratch.get() };
            longest = longest.max(scratch.len());
        }
        for scratch in &self.shared.scratch {
            // SAFETY: as above.
            let scratch = unsafe { &mut *scratch.get() };
            scratch.resize_uninit(longest);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.generation.fetch_add(1, Ordering::SeqCst);
        {
            let _guard = self.shared.sleep.lock().unwrap_or_else(PoisonError::into_inner);
            self.shared.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its tasks, so that joining does not fail; here it could not be handled
            // either.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn work(&self, thread: usize) {
        let mut seen = 0;
        loop {
            seen = self.wait_for_generation_after(seen);
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            // SAFETY: the caller wrote `task` before it incremented `generation`, and does not write it again before
            // this worker decrements `active`.
            let task = unsafe { *self.task.get() };
            // SAFETY: as for `task`.
            let caller = unsafe { (*self.caller.get()).clone() };
            self.take_tasks(thread, task);
            if self.active.fetch_sub(1, Ordering::Release) == 1
                && let Some(caller) = caller
            {
                caller.unpark();
            }
        }
    }

    fn wait_for_workers(&self) {
        for _ in 0..SPINS {
            if self.active.load(Ordering::Acquire) == 0 {
                return;
            }
            std::hint::spin_loop();
        }
        while self.active.load(Ordering::Acquire) > 0 {
            std::thread::park();
        }
    }

    fn wait_for_generation_after(&self, seen: usize) -> usize {
        for _ in 0..SPINS {
            let now = self.generation.load(Ordering::Acquire);
            if now != seen {
                return now;
            }
            std::hint::spin_loop();
        }
        let mut guard = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.n_sleeping.fetch_add(1, Ordering::SeqCst);
        loop {
            let now = self.generation.load(Ordering::SeqCst);
            if now != seen {
                self.n_sleeping.fetch_sub(1, Ordering::SeqCst);
                return now;
            }
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn take_tasks(&self, thread: usize, task: *const Task<'static>) {
        // SAFETY: `scratch[thread]` belongs to this thread while the operation runs.
        let scratch = unsafe { &mut *self.scratch[thread].get() };
        // SAFETY: the pointee outlives the operation (see `Phases::run`).
        let task = unsafe { &*task };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let _in_task = InTask::of(self);
            while let Some(i) = self.tasks.next(thread) {
                task(i, scratch);
            }
        }));
        if let Err(payload) = outcome {
            // Dropping it would run code of the task, which may panic again: that must neither end a worker, for which the
            // caller waits, nor unwind the caller while workers use what it has lent them.
            std::mem::forget(payload);
            self.tasks.clear();
            self.panicked.store(true, Ordering::Relaxed);
        }
    }
}
