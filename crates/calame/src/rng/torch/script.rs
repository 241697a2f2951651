//! The position of a training script in its random numbers.

use serde::{Deserialize, Serialize};

use super::Generator;

/// The generator that a whole training script draws from and the sample order of its current epoch: the state from
/// which an interrupted run resumes.
///
///
/// After its last `torch.manual_seed` a script draws: the model's weights, if the model is built after it; at the
/// start of each epoch a pass over the training loader; for each step the dropout masks; for each evaluation a pass
/// over the training loader and one over the validation loader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    generator: Generator,
    epoch: Option<Epoch>,
}

/// A pass over the training loader in progress.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Epoch {
    number: u64,
    /// The seed of the order; `None` if the loader does not shuffle.
    order_seed: Option<u64>,
}

impl Script {
    /// A script before its first epoch; `generator` is in the state after the model was built.
    pub fn new(generator: Generator) -> Script {
        Script { generator, epoch: None }
    }

    /// The generator, for drawing what comes next in the script.
    pub fn generator(&mut self) -> &mut Generator {
        &mut self.generator
    }

    /// The epoch (from 0) whose order was drawn last, or `None` before the first.
    pub fn epoch(&self) -> Option<u64> {
        self.epoch.map(|epoch| epoch.number)
    }

    /// Starts an epoch and fills `order` with the order of its n samples. If this epoch has already been
    /// started, as in a resumed run, nothing more is drawn.
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

    /// Draws a pass over a loader of n samples that does not affect the current epoch, as for an evaluation,
    /// and fills `order`.
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
