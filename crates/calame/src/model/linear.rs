//! A linear layer: y = x·Wᵀ + b.

use crate::ops::{self, Device};
use crate::tensor::Tensor;

/// Parameters of a linear layer.
#[derive(Clone, Debug)]
pub struct Linear {
    /// [OC, C].
    pub weight: Tensor,
    /// `[OC]`; absent in a layer without.
    pub bias: Tensor,
}

impl Linear {
    /// Zeros, from C to OC channels.
    pub fn zeros(c: usize, oc: usize, bias: bool) -> Linear {
        Linear { weight: Tensor::zeros([oc, c]), bias: if bias { Tensor::zeros([oc]) } else { Tensor::absent() } }
    }

    /// y [R, OC] from x [R, C].
    pub fn forward(&self, dev: &Device, x: &Tensor, y: &mut Tensor) {
        ops::linear_forward(dev, x, &self.weight, &self.bias, y);
    }

    /// dx from dy; `grad` is added to.
    pub fn backward(&self, dev: &Device, dy: &Tensor, x: &Tensor, dx: &mut Tensor, grad: &mut Linear) {
        ops::linear_backward_weight(dev, dy, x, &mut grad.weight, &mut grad.bias);
        ops::linear_backward_input(dev, dy, &self.weight, dx);
    }
}
