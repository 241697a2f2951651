//! How long operations take, phase by phase, and what they had to do at least.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Time since some fixed moment: the library has no clock of its own.
pub type Clock = Box<dyn Fn() -> Duration + Send + Sync>;

/// A kind of work; the caller of an operation that serves several kinds says which it is.
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
    /// Backward of attention over heads.
    AttentionBackward,
    /// Dropout that is not part of a product or of attention.
    Dropout,
    /// Softmax and cross-entropy over the vocabulary, with the gradient of the logits.
    Loss,
    /// Logits, in training and in decoding.
    HeadForward,
    /// dx of the head.
    HeadBackwardInput,
    /// dweight and dbias of the head.
    HeadBackwardWeight,
    /// The norm of the gradients, and the search for what is not finite or not zero.
    Norm,
    /// The optimizer's update of weights and moments.
    AdamW,
    /// Keys and values of new tokens into their pages.
    StoreKv,
    /// Copies, fills, transfers between devices, fresh weights.
    Memory,
}

impl Phase {
    /// Every phase, in the order of a step.
    pub const ALL: [Phase; 17] = [
        Phase::Embedding,
        Phase::LayerNorm,
        Phase::LinearForward,
        Phase::StoreKv,
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
        Phase::Memory,
    ];

    /// The name that tables print.
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
            Phase::StoreKv => "keys and values",
            Phase::Memory => "copies and fills",
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
    pub(crate) fn product(m: usize, k: usize, n: usize) -> Work {
        Work { n_operations: 2.0 * m as f64 * k as f64 * n as f64, n_bytes: 0.0 }
    }

    /// Passes over memory: elements of four bytes that are read or written.
    pub(crate) fn passes(n_elements: usize) -> Work {
        Work { n_operations: 0.0, n_bytes: 4.0 * n_elements as f64 }
    }
}

/// The sums over all operations of one phase.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PhaseTotal {
    /// Operations that were called.
    pub n_calls: u64,
    /// Seconds that they took.
    pub seconds: f64,
    /// What they had to do.
    pub work: Work,
}

pub(super) type Totals = [PhaseTotal; Phase::ALL.len()];

pub(super) struct Profile {
    clock: Clock,
    totals: Mutex<Totals>,
}

impl Profile {
    pub fn new(clock: Clock) -> Profile {
        Profile { clock, totals: Mutex::default() }
    }

    pub fn time<R>(&self, phase: Phase, work: Work, operation: impl FnOnce() -> R) -> R {
        let start = (self.clock)();
        let result = operation();
        let seconds = ((self.clock)() - start).as_secs_f64();
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        let total = &mut totals[phase as usize];
        total.n_calls += 1;
        total.seconds += seconds;
        total.work.n_operations += work.n_operations;
        total.work.n_bytes += work.n_bytes;
        result
    }

    pub fn take(&self) -> Totals {
        std::mem::take(&mut self.totals.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
