//! Where operations run, and how long they take there.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use calame_kernels::{Isa, Pool, Precision};

/// Where operations run: threads, their instruction set, the number format of products.
pub struct Device {
    pub(super) pool: Pool,
    precision: Precision,
    profile: Option<Profile>,
}

/// Time since some fixed moment: the library has no clock of its own.
pub type Clock = Box<dyn Fn() -> Duration + Send + Sync>;

/// A kind of work in a training step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Embedding, forward and backward.
    Embedding,
    /// Layer normalisation, forward and backward.
    LayerNorm,
    /// y of linear layers, with what is done to it while it is in the cache (GELU; dropout and residual sum).
    LinearForward,
    /// dx of linear layers, with GELU's backward.
    LinearBackwardInput,
    /// dweight of linear layers.
    LinearBackwardWeight,
    /// dbias of linear layers.
    LinearBackwardBias,
    /// Attention over heads, without the linear layers around it.
    AttentionForward,
    /// Its backward.
    AttentionBackward,
    /// Dropout that is not part of a product or of attention.
    Dropout,
    /// Softmax and cross-entropy over the vocabulary, with the logits' gradient.
    Loss,
    /// Logits.
    HeadForward,
    /// dx of the head.
    HeadBackwardInput,
    /// dweight of the head.
    HeadBackwardWeight,
    /// The norm of the gradients.
    Norm,
    /// The optimizer.
    AdamW,
}

impl Phase {
    /// All of them, in the order of a step.
    pub const ALL: [Phase; 15] = [
        Phase::Embedding,
        Phase::LayerNorm,
        Phase::LinearForward,
        Phase::AttentionForward,
        Phase::HeadForward,
        Phase::Loss,
        Phase::HeadBackwardInput,
        Phase::HeadBackwardWeight,
        Phase::LinearBackwardInput,
        Phase::LinearBackwardWeight,
        Phase::LinearBackwardBias,
        Phase::AttentionBackward,
        Phase::Dropout,
        Phase::Norm,
        Phase::AdamW,
    ];

    /// Its name, as tables print it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Embedding => "embedding",
            Phase::LayerNorm => "layer norm",
            Phase::LinearForward => "linear, forward",
            Phase::LinearBackwardInput => "linear, dx",
            Phase::LinearBackwardWeight => "linear, dweight",
            Phase::LinearBackwardBias => "linear, dbias",
            Phase::AttentionForward => "attention, forward",
            Phase::AttentionBackward => "attention, backward",
            Phase::Dropout => "dropout",
            Phase::Loss => "softmax and loss",
            Phase::HeadForward => "head, forward",
            Phase::HeadBackwardInput => "head, dx",
            Phase::HeadBackwardWeight => "head, dweight",
            Phase::Norm => "gradient norm",
            Phase::AdamW => "AdamW",
        }
    }
}

/// What an operation must do at least.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Operations of products, a multiplication and an addition counted as two.
    pub n_operations: f64,
    /// Bytes that must pass between memory and processor if nothing is in the cache.
    pub n_bytes: f64,
}

impl Work {
    /// A product [m, k] · [k, n].
    pub(super) fn product(m: usize, k: usize, n: usize) -> Work {
        Work { n_operations: 2.0 * m as f64 * k as f64 * n as f64, n_bytes: 0.0 }
    }

    /// Passes over memory: f32 read or written.
    pub(super) fn passes(n_floats: usize) -> Work {
        Work { n_operations: 0.0, n_bytes: 4.0 * n_floats as f64 }
    }
}

/// All operations of one phase.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PhaseTotal {
    /// Number of operations that were called.
    pub n_calls: u64,
    /// How long they took.
    pub seconds: f64,
    /// What they had to do.
    pub work: Work,
}

struct Profile {
    clock: Clock,
    totals: Mutex<[PhaseTotal; Phase::ALL.len()]>,
}

impl Device {
    /// The processor, with `n_threads` threads, kernels for `isa`, and products in `precision`.
    ///
    /// # Panics
    /// If `n_threads` is 0 or this machine lacks `isa`.
    pub fn cpu(n_threads: usize, isa: Isa, precision: Precision) -> Device {
        Device { pool: Pool::new(n_threads, isa), precision, profile: None }
    }

    /// The same device; every operation is timed from now on.
    pub fn profiled(self, clock: Clock) -> Device {
        Device { profile: Some(Profile { clock, totals: Mutex::default() }), ..self }
    }

    /// Number of threads.
    pub fn n_threads(&self) -> usize {
        self.pool.n_threads()
    }

    /// The kernels' instruction set.
    pub fn isa(&self) -> Isa {
        self.pool.isa()
    }

    /// What products multiply.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The totals since this was last asked, phase by phase, and starts anew; all zero without a clock.
    pub fn take_profile(&self) -> [(Phase, PhaseTotal); Phase::ALL.len()] {
        let mut taken = [PhaseTotal::default(); Phase::ALL.len()];
        if let Some(profile) = &self.profile {
            let mut totals = profile.totals.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut taken, &mut *totals);
        }
        std::array::from_fn(|i| (Phase::ALL[i], taken[Phase::ALL[i] as usize]))
    }

    /// Runs one operation on the pool.
    pub(super) fn run<R>(&self, phase: Phase, work: Work, operation: impl FnOnce(&Pool) -> R) -> R {
        let Some(profile) = &self.profile else { return operation(&self.pool) };
        let start = (profile.clock)();
        let result = operation(&self.pool);
        let seconds = ((profile.clock)() - start).as_secs_f64();
        let mut totals = profile.totals.lock().unwrap_or_else(PoisonError::into_inner);
        let total = &mut totals[phase as usize];
        total.n_calls += 1;
        total.seconds += seconds;
        total.work.n_operations += work.n_operations;
        total.work.n_bytes += work.n_bytes;
        result
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device {{ {} threads, {}, {} }}", self.n_threads(), self.isa(), self.precision)
    }
}
