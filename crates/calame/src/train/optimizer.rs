//! AdamW over a model's parameters.

use super::TrainConfig;
use crate::model::{Gpt, ModelConfig, Part};
use crate::ops::{self, AdamWStep, Device};

/// AdamW and its two moments of every parameter (I. Loshchilov and F. Hutter, 2019).
#[derive(Debug)]
pub struct AdamW {
    m: Gpt,
    v: Gpt,
    /// This step's numbers.
    step: AdamWStep,
    beta: [f64; 2],
}

impl AdamW {
    /// Fresh moments, and the training's settings.
    pub fn new(model: &ModelConfig, train: &TrainConfig) -> AdamW {
        let step = AdamWStep {
            lr: train.lr as f32,
            beta1: train.beta1 as f32,
            beta2: train.beta2 as f32,
            eps: train.eps as f32,
            weight_decay: train.weight_decay as f32,
            bias_correction1: 1.0,
            bias_correction2: 1.0,
        };
        AdamW { m: Gpt::zeros(model), v: Gpt::zeros(model), step, beta: [train.beta1, train.beta2] }
    }

    /// Both moments, for a checkpoint.
    pub fn moments(&self) -> (&Gpt, &Gpt) {
        (&self.m, &self.v)
    }

    /// Both moments, to read a checkpoint into.
    pub fn moments_mut(&mut self) -> (&mut Gpt, &mut Gpt) {
        (&mut self.m, &mut self.v)
    }

    /// Makes ready for step `n_steps` (from 0) at learning rate `lr`.
    pub fn begin_step(&mut self, n_steps: u64, lr: f64) {
        // In f64: 1 − 0.999ᵗ loses three digits in f32.
        let t = i32::try_from(n_steps + 1).unwrap_or(i32::MAX);
        self.step.bias_correction1 = (1.0 - self.beta[0].powi(t)) as f32;
        self.step.bias_correction2 = (1.0 - self.beta[1].powi(t)) as f32;
        self.step.lr = lr as f32;
    }

    /// Updates the weights of a part whose gradients are final, and sets those to zero.
    pub fn update(&mut self, dev: &Device, part: Part, weights: &mut Gpt, grad: &mut Gpt) {
        let moments = self.m.part_mut(part).zip(self.v.part_mut(part));
        for (((_, w), (_, g)), ((_, m), (_, v))) in weights.part_mut(part).zip(grad.part_mut(part)).zip(moments) {
            // An absent gradient: no such parameter, or one that is frozen.
            if !g.is_empty() {
                ops::adamw(dev, &self.step, w, g, m, v);
            }
        }
    }
}
