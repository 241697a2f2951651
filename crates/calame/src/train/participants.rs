//! What the participants of a training (threads, machines) agree on in every step.

use std::fmt;

use crate::device::Device;
use crate::model::{GradientSink, PartGradient, Weights};

/// Turns a participant's own numbers into those of all participants. A step that fails for one of them fails for all, before
/// any weight changes.
pub trait Participants: fmt::Debug + Send {
    /// What the loss is divided by, summed over all participants; called once at the beginning of a step.
    fn agree_on_units(&mut self, n_units: f64) -> f64 {
        n_units
    }

    /// The sum of a micro-step's losses over all participants, before backward passes on any gradient.
    fn agree_on_loss(&mut self, loss: f64) -> f64 {
        loss
    }

    /// The sum of squares of the whole gradient, which every participant has as the same sum over all of them.
    fn agree_on_squares(&mut self, sum: f64) -> f64 {
        sum
    }
}

/// The default: one process trains alone, and every number is its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Solo;

impl Participants for Solo {}

/// A sink whose losses the participants agree on.
pub(super) struct Agreed<'a> {
    pub sink: &'a mut dyn GradientSink,
    pub participants: &'a mut dyn Participants,
}

impl GradientSink for Agreed<'_> {
    fn agree(&mut self, loss: f64) -> f64 {
        self.participants.agree_on_loss(self.sink.agree(loss))
    }

    fn accept(&mut self, dev: &Device, weights: Weights<'_>, gradient: PartGradient) -> Option<PartGradient> {
        self.sink.accept(dev, weights, gradient)
    }

    fn returns_unchanged(&self) -> bool {
        self.sink.returns_unchanged()
    }

    fn reclaim(&mut self, dev: &Device, weights: Weights<'_>) -> Option<PartGradient> {
        self.sink.reclaim(dev, weights)
    }
}
