//! Layer normalisation: y = (x − μ)/√(σ² + ε)·w + b for each row (J. Ba et al., 2016).

use super::params::Param;
use super::zeros::Zeros;
use crate::ops::{self, Affine, Device};
use crate::tensor::{Alloc, Tensor};

/// Parameters of a layer normalisation.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    /// What each normalised channel is multiplied by, `[C]`.
    pub weight: Tensor,
    /// What is added to each channel, `[C]`; absent in a model without biases.
    pub bias: Tensor,
    /// ε, which is added to the variance.
    pub eps: f32,
}

/// What backward reads besides the layer's input.
#[derive(Debug)]
pub struct LayerNormSaved {
    /// The mean of each row, [B·T].
    pub mean: Tensor,
    /// 1/√(variance + ε) of each row, [B·T].
    pub rstd: Tensor,
}

impl LayerNormSaved {
    /// For up to `n_rows` rows.
    pub fn new(n_rows: usize, alloc: &mut Alloc<'_>) -> LayerNormSaved {
        LayerNormSaved { mean: alloc.zeros([n_rows]), rstd: alloc.zeros([n_rows]) }
    }

    /// For a smaller batch.
    ///
    /// # Panics
    /// If the capacity is exceeded.
    pub fn set_rows(&mut self, n_rows: usize) {
        self.mean.set_rows(n_rows);
        self.rstd.set_rows(n_rows);
    }
}

impl LayerNorm {
    pub(super) fn zeros(zeros: &mut Zeros<'_, '_>, [weight, bias]: &'static [Param; 2]) -> LayerNorm {
        let eps = zeros.config.layer_norm_epsilon;
        LayerNorm { weight: zeros.tensor(weight), bias: zeros.tensor(bias), eps }
    }

    fn affine(&self) -> Affine<'_> {
        Affine { weight: &self.weight, bias: &self.bias, eps: self.eps }
    }

    /// y [R, C] from x [R, C].
    ///
    /// # Panics
    /// If the sizes do not agree.
    pub fn forward(&self, dev: &Device, x: &Tensor, y: &mut Tensor, saved: &mut LayerNormSaved) {
        ops::layer_norm_forward(dev, x, self.affine(), y, &mut saved.mean, &mut saved.rstd);
    }

    /// y again: it is cheaper to compute twice than to keep for every block.
    ///
    /// # Panics
    /// If the sizes do not agree.
    pub fn forward_again(&self, dev: &Device, x: &Tensor, saved: &LayerNormSaved, y: &mut Tensor) {
        ops::layer_norm_again(dev, x, self.affine(), &saved.mean, &saved.rstd, y);
    }

    /// dx and `grad` are added to: every input of a layer normalisation is the residual stream.
    ///
    /// # Panics
    /// If the sizes do not agree.
    pub fn backward_add(
        &self,
        dev: &Device,
        dy: &Tensor,
        x: &Tensor,
        saved: &LayerNormSaved,
        dx: &mut Tensor,
        grad: &mut LayerNorm,
    ) {
        let (mean, rstd) = (&saved.mean, &saved.rstd);
        let (dweight, dbias) = (&mut grad.weight, &mut grad.bias);
        ops::layer_norm_backward_add(dev, dy, x, self.affine(), mean, rstd, dx, dweight, dbias);
    }
}
