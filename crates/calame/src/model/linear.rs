//! A linear layer: y = x·Wᵀ + b.

use crate::ops::{self, Device, Residual};
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

    /// y [R, OC] from x [R, C], and `gelu` of it.
    pub fn forward_gelu(&self, dev: &Device, x: &Tensor, y: &mut Tensor, gelu: &mut Tensor) {
        ops::linear_gelu_forward(dev, x, &self.weight, &self.bias, y, gelu);
    }

    /// y [R, OC]: the residual stream plus what the layer gives for x [R, C], dropped out.
    pub fn forward_residual(&self, dev: &Device, x: &Tensor, residual: Residual<'_>, y: &mut Tensor) {
        ops::linear_residual_forward(dev, x, &self.weight, &self.bias, residual, y);
    }

    /// dx from dy; `grad` is added to.
    pub fn backward(&self, dev: &Device, dy: &Tensor, x: &Tensor, dx: &mut Tensor, grad: &mut Linear) {
        ops::linear_backward_weight(dev, dy, x, &mut grad.weight, &mut grad.bias);
        ops::linear_backward_input(dev, dy, &self.weight, dx);
    }

    /// dx from dy where the layer's input was gelu(x): `gelu` is made again on the way; `grad` is added to.
    pub fn backward_gelu(
        &self,
        dev: &Device,
        dy: &Tensor,
        x: &Tensor,
        dx: &mut Tensor,
        gelu: &mut Tensor,
        grad: &mut Linear,
    ) {
        ops::linear_gelu_backward_input(dev, dy, &self.weight, x, dx, gelu);
        ops::linear_backward_weight(dev, dy, gelu, &mut grad.weight, &mut grad.bias);
    }
}
