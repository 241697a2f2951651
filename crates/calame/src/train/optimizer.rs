//! AdamW over a model's parameters.

use super::TrainConfig;
use super::config::Decayed;
use crate::model::params::Kind;
use crate::model::{Gpt, ModelConfig, Part};
use crate::ops::{self, AdamWStep, Device};

/// AdamW and its two moments of every parameter (I. Loshchilov and F. Hutter, 2019).
#[derive(Debug)]
pub struct AdamW {
    m: Gpt,
    v: Gpt,
    /// Tokens whose row of `wte` has ever had a gradient; empty where the head gives every row one.
    touched: Vec<bool>,
    /// This step's numbers.
    step: AdamWStep,
    beta: [f64; 2],
    decayed: Decayed,
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
            grad_scale: 1.0,
        };
        let touched = if model.tied_head { Vec::new() } else { vec![false; model.vocab_size] };
        AdamW {
            m: Gpt::zeros_for_training(model),
            v: Gpt::zeros_for_training(model),
            touched,
            step,
            beta: [train.beta1, train.beta2],
            decayed: train.decayed,
        }
    }

    /// Both moments, for a checkpoint.
    pub fn moments(&self) -> (&Gpt, &Gpt) {
        (&self.m, &self.v)
    }

    /// Both moments, to read a checkpoint into.
    pub fn moments_mut(&mut self) -> (&mut Gpt, &mut Gpt) {
        // What is read may touch any row; `find_touched` looks which.
        self.touched.fill(true);
        (&mut self.m, &mut self.v)
    }

    /// Looks which rows the moments that were read have touched.
    pub fn find_touched(&mut self) {
        let c = self.m.wte.row_len();
        let rows = self.m.wte.as_slice().chunks_exact(c).zip(self.v.wte.as_slice().chunks_exact(c));
        for (touched, (m, v)) in self.touched.iter_mut().zip(rows) {
            *touched = m.iter().chain(v).any(|&x| x != 0.0);
        }
    }

    /// Tells which tokens the gradients of this step come from.
    pub fn touch(&mut self, tokens: &[u32]) {
        if !self.touched.is_empty() {
            tokens.iter().for_each(|&token| self.touched[token as usize] = true);
        }
    }

    /// Makes ready for update `n_updates` (from 0) at learning rate `lr`.
    pub fn begin_step(&mut self, n_updates: u64, lr: f64) {
        // In f64: 1 − 0.999ᵗ loses three digits in f32.
        let t = i32::try_from(n_updates + 1).unwrap_or(i32::MAX);
        self.step.bias_correction1 = (1.0 - self.beta[0].powi(t)) as f32;
        self.step.bias_correction2 = (1.0 - self.beta[1].powi(t)) as f32;
        self.step.lr = lr as f32;
        self.step.grad_scale = 1.0;
    }

    /// The gradients of this step are to be multiplied by `factor` before they are used.
    pub fn scale_gradients(&mut self, factor: f32) {
        self.step.grad_scale = factor;
    }

    /// Updates the weights of a part whose gradients are final, and sets those to zero.
    pub fn update(&mut self, dev: &Device, part: Part, weights: &mut Gpt, grad: &mut Gpt) {
        let moments = self.m.part_mut(part).zip(self.v.part_mut(part));
        for (((name, w), (_, g)), ((_, m), (_, v))) in weights.part_mut(part).zip(grad.part_mut(part)).zip(moments) {
            // An absent gradient: no such parameter, or one that is frozen.
            if g.is_empty() {
                continue;
            }
            let matrix = matches!(name.kind(), Kind::Embedding | Kind::Matrix | Kind::ResidualMatrix);
            let decays = self.decayed == Decayed::All || matrix;
            let step = AdamWStep { weight_decay: if decays { self.step.weight_decay } else { 0.0 }, ..self.step };
            if name.path == "wte.weight" && !self.touched.is_empty() {
                ops::adamw_rows(dev, &step, &self.touched, w, g, m, v);
            } else {
                ops::adamw(dev, &step, w, g, m, v);
            }
        }
    }
}
