//! The state of a training, which a checkpoint holds.

use super::progress::Progress;
use crate::device::Device;
use crate::model::{Gpt, Head};

/// A training's state, to be written.
#[derive(Clone, Debug)]
pub struct TrainingState<'a> {
    /// The device of the tensors.
    pub dev: &'a Device,
    /// The weights, AdamW's running mean of gradients, its running mean of squared gradients.
    pub trees: [&'a Gpt; 3],
    /// The same of the head that the objective owns.
    pub own_heads: Option<[&'a Head; 3]>,
    /// How far the training is.
    pub progress: Progress,
}
