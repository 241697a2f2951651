//! Where a training's random numbers come from: weights, the order of samples, dropout.

use std::fmt;

use super::config::{Rng, RunConfig};
use super::splits::Splits;
use crate::data::Loader;
use crate::model::{Dropout, Gpt, Masks};
use crate::ops::Device;
use crate::rng::torch::{Generator, Script};
use crate::rng::{self, Purpose};

/// The source of everything that a training draws after its weights.
pub trait Randomness: fmt::Debug + Send {
    /// Makes the loaders of both splits what this source expects of them.
    fn prepare(&self, splits: &mut Splits) {
        let _ = splits;
    }

    /// Puts the training loader at the start of an epoch (from 0), in the order of its samples.
    fn begin_epoch(&mut self, epoch: u64, shuffle: bool, loader: &mut Loader);

    /// Puts a loader at the start of an evaluation.
    fn begin_evaluation(&mut self, shuffle: bool, loader: &mut Loader);

    /// The dropout masks of a micro-step of [B, T] tokens, whose first sequence has the place `first_sequence` in the whole
    /// batch of `step`.
    fn dropout(&mut self, step: u64, first_sequence: u32, n_sequences: usize, n_positions: usize) -> Dropout<'_>;

    /// Notes the state before a step, to which [`roll_back`](Self::roll_back) returns if the step fails.
    fn mark(&mut self) {}

    /// Returns to the state of the last [`mark`](Self::mark).
    fn roll_back(&mut self) {}

    /// The state that a checkpoint must hold; None where every number is a function of seed and step.
    fn state(&self) -> Option<Script> {
        None
    }

    /// Returns to the state that a checkpoint holds, at batch `batch` of `epoch`.
    ///
    /// # Errors
    /// What the checkpoint has, and what was expected, if it is not a state of this source.
    fn restore(&mut self, state: Option<Script>, epoch: u64, batch: usize) -> Result<(), StateMismatch>;
}

/// A checkpoint's random state that is not one of the run's source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateMismatch {
    /// What the checkpoint has.
    pub found: String,
    /// What the run needs.
    pub expected: String,
}

/// Fresh weights as the run's settings say, and the source that continues from there.
///
/// # Panics
/// If [`RunConfig::validate_fresh_weights`] rejects the settings.
pub fn fresh_weights(dev: &Device, config: &RunConfig) -> (Gpt, Box<dyn Randomness>) {
    match config.train.rng {
        Rng::Calame => (Gpt::fresh(dev, &config.model, config.train.seed), Box::new(Counter::new(config))),
        Rng::Torch => {
            let mut random = Generator::new(config.train.seed);
            let gpt = Gpt::fresh_as_torch(dev, &config.model, &mut random);
            (gpt, Box::new(TorchScript::new(config, random)))
        }
    }
}

/// The source of a training that starts from given weights. A PyTorch script seeds its generator after it has its model.
pub fn for_given_weights(config: &RunConfig) -> Box<dyn Randomness> {
    match config.train.rng {
        Rng::Calame => Box::new(Counter::new(config)),
        Rng::Torch => Box::new(TorchScript::new(config, Generator::new(config.train.seed))),
    }
}

/// Counter-based streams: each number is a function of the seed and of what it is for.
#[derive(Debug)]
struct Counter {
    seed: u64,
    p: f32,
    order: Vec<u32>,
}

impl Counter {
    fn new(config: &RunConfig) -> Counter {
        Counter { seed: config.train.seed, p: config.model.dropout, order: Vec::new() }
    }
}

impl Randomness for Counter {
    fn begin_epoch(&mut self, epoch: u64, shuffle: bool, loader: &mut Loader) {
        let n = loader.n_windows();
        if shuffle && loader.is_long() {
            loader.start_shuffled(rng::Shuffle::of_epoch(self.seed, epoch, n as u64));
        } else if shuffle {
            rng::permute(self.seed, epoch, n, &mut self.order);
            loader.start_epoch(Some(&self.order));
        } else {
            loader.start_epoch(None);
        }
    }

    /// Evaluations take the samples in order, so that they change nothing that follows.
    fn begin_evaluation(&mut self, _: bool, loader: &mut Loader) {
        loader.start_epoch(None);
    }

    fn dropout(&mut self, step: u64, first_sequence: u32, _: usize, _: usize) -> Dropout<'_> {
        Dropout::of_step(rng::stream(self.seed, Purpose::Dropout, step), first_sequence, self.p)
    }

    fn restore(&mut self, state: Option<Script>, _: u64, _: usize) -> Result<(), StateMismatch> {
        match state {
            None => Ok(()),
            Some(_) => Err(StateMismatch {
                found: "a state of PyTorch's generator".to_owned(),
                expected: "none, since train.rng is calame".to_owned(),
            }),
        }
    }
}

/// One generator, drawn from in the order of the report's PyTorch script.
#[derive(Debug)]
struct TorchScript {
    script: Script,
    marked: Script,
    masks: Masks,
    order: Vec<u32>,
}

impl TorchScript {
    fn new(config: &RunConfig, random: Generator) -> TorchScript {
        let script = Script::new(random);
        TorchScript { marked: script.clone(), script, masks: Masks::new(&config.model), order: Vec::new() }
    }
}

impl Randomness for TorchScript {
    /// The book evaluates over the loader that it trains on.
    fn prepare(&self, splits: &mut Splits) {
        splits.train_evaluated = splits.train.clone();
    }

    fn begin_epoch(&mut self, epoch: u64, shuffle: bool, loader: &mut Loader) {
        self.script.begin_epoch(epoch, loader.n_windows(), shuffle, &mut self.order);
        loader.start_epoch(Some(&self.order));
    }

    fn begin_evaluation(&mut self, shuffle: bool, loader: &mut Loader) {
        self.script.evaluation_pass(loader.n_windows(), shuffle, &mut self.order);
        loader.start_epoch(Some(&self.order));
    }

    fn dropout(&mut self, _: u64, _: u32, n_sequences: usize, n_positions: usize) -> Dropout<'_> {
        self.masks.draw(self.script.generator(), n_sequences, n_positions)
    }

    fn mark(&mut self) {
        self.marked.clone_from(&self.script);
    }

    fn roll_back(&mut self) {
        self.script.clone_from(&self.marked);
    }

    fn state(&self) -> Option<Script> {
        Some(self.script.clone())
    }

    fn restore(&mut self, state: Option<Script>, epoch: u64, batch: usize) -> Result<(), StateMismatch> {
        let mismatch = |found: String, expected: String| Err(StateMismatch { found, expected });
        let Some(script) = state else {
            let expected = "the state of PyTorch's generator, since train.rng is torch";
            return mismatch("none".to_owned(), expected.to_owned());
        };
        if batch > 0 && script.epoch() != Some(epoch) {
            let found = script.epoch().map_or("before its first epoch".to_owned(), |n| format!("in epoch {n}"));
            return mismatch(found, format!("a place in epoch {epoch}, as the run's"));
        }
        self.script = script;
        Ok(())
    }
}
