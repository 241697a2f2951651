//! AdamW over a model's parameters.

use super::TrainConfig;
use super::config::Decayed;
use crate::model::params::ParamName;
use crate::model::{Gpt, GradientSink, Head, PartGradient, Trainable, Weights};
use crate::ops::{self, AdamWStep, Device, RowSet};
use crate::tensor::{Alloc, Tensor};

/// AdamW and its two moments of every trained parameter (I. Loshchilov and F. Hutter, 2019).
#[derive(Debug)]
pub struct AdamW {
    m: Gpt,
    v: Gpt,
    /// Both moments of the head that the objective owns.
    own_head: Option<[Head; 2]>,
    /// Rows of `wte` that have ever had a gradient; the others only decay.
    touched: RowSet,
    settings: AdamWStep,
    beta: [f64; 2],
    decayed: Decayed,
}

impl AdamW {
    /// Fresh moments for the parameters of `gpt` that are trained, and the training's settings.
    pub fn new(
        gpt: &Gpt,
        own_head: Option<&Head>,
        trainable: Trainable,
        train: &TrainConfig,
        alloc: &mut Alloc<'_>,
    ) -> AdamW {
        let settings = AdamWStep {
            lr: train.lr as f32,
            beta1: train.beta1 as f32,
            beta2: train.beta2 as f32,
            eps: train.eps as f32,
            weight_decay: train.weight_decay as f32,
            bias_correction1: 1.0,
            bias_correction2: 1.0,
            grad_scale: 1.0,
        };
        AdamW {
            m: gpt.moments(trainable, alloc),
            v: gpt.moments(trainable, alloc),
            own_head: own_head.map(|head| [head.zeros_like(alloc), head.zeros_like(alloc)]),
            touched: if gpt.config.tied_head { RowSet::All } else { RowSet::Some(alloc.list(gpt.config.vocab_size)) },
            settings,
            beta: [train.beta1, train.beta2],
            decayed: train.decayed,
        }
    }

    /// Both moments of the model's parameters, for a checkpoint.
    pub fn moments(&self) -> (&Gpt, &Gpt) {
        (&self.m, &self.v)
    }

    /// Both moments of the head that the objective owns, for a checkpoint.
    pub fn head_moments(&self) -> Option<&[Head; 2]> {
        self.own_head.as_ref()
    }

    /// Lets `read` overwrite all moments, of the model and of the objective's head, and finds the rows of `wte` that they
    /// have touched.
    ///
    /// # Errors
    /// That of `read`.
    pub fn load_moments<T, E>(
        &mut self,
        dev: &Device,
        read: impl FnOnce([&mut Gpt; 2], Option<&mut [Head; 2]>) -> Result<T, E>,
    ) -> Result<T, E> {
        let result = read([&mut self.m, &mut self.v], self.own_head.as_mut());
        self.touched.clear();
        ops::find_touched(dev, &self.m.wte, &mut self.touched);
        ops::find_touched(dev, &self.v.wte, &mut self.touched);
        result
    }

    /// Begins update `n_updates` (from 0) at learning rate `lr`; gradients are multiplied by `grad_scale` first.
    pub fn begin(&mut self, n_updates: u64, lr: f64, grad_scale: f32) -> Update<'_> {
        // In f64: 1 − 0.999ᵗ loses three digits in f32.
        let t = i32::try_from(n_updates.saturating_add(1)).unwrap_or(i32::MAX);
        let step = AdamWStep {
            bias_correction1: (1.0 - self.beta[0].powi(t)) as f32,
            bias_correction2: (1.0 - self.beta[1].powi(t)) as f32,
            lr: lr as f32,
            grad_scale,
            ..self.settings
        };
        Update { optimizer: self, step }
    }
}

/// One update of the weights, part by part: its numbers are fixed when it begins.
#[derive(Debug)]
pub struct Update<'a> {
    optimizer: &'a mut AdamW,
    step: AdamWStep,
}

impl Update<'_> {
    /// Updates the weights of a part from its final gradient, which is set to zero.
    ///
    /// # Panics
    /// If the weights and the gradient are not of the model that the optimizer was created for.
    pub fn apply(&mut self, dev: &Device, weights: Weights<'_>, gradient: &mut PartGradient) {
        let AdamW { m, v, own_head: head_moments, touched, decayed, .. } = &mut *self.optimizer;
        let part = gradient.part();
        if let PartGradient::Embeddings(embeddings) = gradient {
            touched.add(&embeddings.touched);
        }
        let one = |[(name, w), (of_g, g), (of_m, m), (of_v, v)]: [Named<'_>; 4]| {
            assert!(
                name == of_g && name == of_m && name == of_v,
                "AdamW: {name} would be updated from the gradient of {of_g} and the moments of {of_m} and {of_v}"
            );
            // An absent gradient: no such parameter, or one that is frozen.
            if !g.is_empty() {
                let decays = *decayed == Decayed::All || name.kind().is_matrix();
                let weight_decay = if decays { self.step.weight_decay } else { 0.0 };
                let rows = if name.param.is_token_table() { &*touched } else { &RowSet::All };
                ops::adamw(dev, &AdamWStep { weight_decay, ..self.step }, rows, w, g, m, v);
            }
        };
        let own = (weights.own_head, gradient.own_head_mut(), head_moments);
        if let (Some(head), Some(gradient), Some([m, v])) = own {
            let moments = m.tensors_mut().into_iter().zip(v.tensors_mut());
            let tensors = head.tensors_mut().into_iter().zip(gradient.tensors_mut());
            tensors.zip(moments).for_each(|((w, g), (m, v))| one([w, g, m, v]));
        }
        let (mut gradients, mut m, mut v) = (gradient.tensors_mut(), m.part_mut(part), v.part_mut(part));
        for weight in weights.gpt.part_mut(part) {
            let name = weight.0;
            let (Some(g), Some(m), Some(v)) = (gradients.next(), m.next(), v.next()) else {
                panic!("AdamW: no gradient or no moments in the place of {name}");
            };
            one([weight, g, m, v]);
        }
        drop(gradients);
        gradient.forget_touched();
    }
}

type Named<'a> = (ParamName, &'a mut Tensor);

/// As a sink, an update is made of each part as soon as its gradient is final, and the buffer is returned at once.
impl GradientSink for Update<'_> {
    fn accept(&mut self, dev: &Device, weights: Weights<'_>, mut gradient: PartGradient) -> Option<PartGradient> {
        self.apply(dev, weights, &mut gradient);
        Some(gradient)
    }
}
