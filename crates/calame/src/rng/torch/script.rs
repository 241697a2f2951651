//! The place that a training script has come to.

use serde::{Deserialize, Serialize};

use super::Generator;

/// The generator that a whole training script draws from, and the order of the samples of its epoch: what a stopped run
/// needs to go on.
///
/// A script draws, from its last `torch.manual_seed` on: the model's weights, if it was built after that; at the start of
/// each epoch a pass over the training loader; for each step the masks of dropout; for each evaluation a pass over the
/// training loader and one over the validation loader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    generator: Generator,
    epoch: Option<Epoch>,
}

/// A pass over the training loader that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Epoch {
    number: u64,
    /// The seed of the order; none where the loader does not shuffle.
    order_seed: Option<u64>,
}

impl Script {
    /// A script before its first epoch, with its generator as the model's construction has left it.
    pub fn new(generator: Generator) -> Script {
        Script { generator, epoch: None }
    }

    /// The generator, to draw from it what comes next.
    pub fn generator(&mut self) -> &mut Generator {
        &mut self.generator
    }

    /// The epoch (from 0) whose order was drawn last.
    pub fn epoch(&self) -> Option<u64> {
        self.epoch.map(|epoch| epoch.number)
    }

    /// Starts an epoch, or takes up again the one under way, for which nothing more is drawn: the order of its n samples,
    /// in `order`.
    ///
    /// # Panics
    /// If n is 2³² or more.
    pub fn begin_epoch(&mut self, number: u64, n: usize, shuffle: bool, order: &mut Vec<u32>) {
        let epoch = match self.epoch {
            Some(epoch) if epoch.number == number => epoch,
            _ => Epoch { number, order_seed: self.pass(shuffle) },
        };
        self.epoch = Some(epoch);
        order_of(epoch.order_seed, n, order);
    }

    /// A pass over a loader of n samples beside the epoch under way, as an evaluation makes it: their order, in `order`.
    ///
    /// # Panics
    /// If n is 2³² or more.
    pub fn evaluation_pass(&mut self, n: usize, shuffle: bool, order: &mut Vec<u32>) {
        order_of(self.pass(shuffle), n, order);
    }

    fn pass(&mut self, shuffle: bool) -> Option<u64> {
        if shuffle {
            return Some(self.generator.shuffled_pass());
        }
        self.generator.pass();
        None
    }
}

fn order_of(seed: Option<u64>, n: usize, order: &mut Vec<u32>) {
    match seed {
        Some(seed) => Generator::new(seed).randperm(n, order),
        None => {
            let end = u32::try_from(n).unwrap_or_else(|_| panic!("an order of {n} samples does not fit u32"));
            order.clear();
            order.extend(0..end);
        }
    }
}
