//! Where a dropout mask comes from.

use crate::ops::Keep;
use crate::rng::Key;

/// The four places in a model that drop elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Site {
    Embedding,
    Attention,
    AttentionBranch,
    MlpBranch,
}

/// The source of dropout masks for one pass over one batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Dropout {
    /// Nothing is dropped: evaluation and inference, or a model without dropout.
    Off,
    /// Masks by the counter-based generator, made again in backward.
    Counter {
        /// Stands for seed and step.
        key: Key,
        /// Place of the batch's first sequence in the step's whole batch, so that masks depend on neither rank nor
        /// micro-step.
        first_sequence: u32,
        /// Probability of dropping an element.
        p: f32,
    },
}

impl Dropout {
    /// Masks of probability `p` for a step's key; Off where p is 0.
    pub fn of_step(key: Key, first_sequence: u32, p: f32) -> Dropout {
        if p == 0.0 { Dropout::Off } else { Dropout::Counter { key, first_sequence, p } }
    }

    /// The factors of one site of one layer.
    pub(super) fn keep(&self, layer: usize, site: Site) -> Option<Keep> {
        match *self {
            Dropout::Off => None,
            Dropout::Counter { key, first_sequence, p } => {
                Some(Keep::new(key, first_sequence, (layer as u32) << 2 | site as u32, p))
            }
        }
    }
}
