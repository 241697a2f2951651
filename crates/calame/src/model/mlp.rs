//! The block's second half: y = c_proj(activation(c_fc(x))), GELU and four times as wide inside in GPT-2.
//!
//! I is the width inside.

use super::adapter::AdapterScratch;
use super::params::{C_FC, C_FC_BIAS, MLP_C_PROJ, MLP_C_PROJ_BIAS};
use super::zeros::Zeros;
use super::{Linear, ModelConfig};
use crate::ops::{Activation, Device, Residual};
use crate::tensor::{Alloc, Tensor};

/// Parameters of the MLP.
#[derive(Clone, Debug)]
pub struct Mlp {
    /// [I, C]: widens the residual stream.
    pub c_fc: Linear,
    /// [C, I]: back to the residual stream.
    pub c_proj: Linear,
    /// The function between them.
    pub activation: Activation,
}

/// What backward reads besides the layer's input.
#[derive(Debug)]
pub struct MlpSaved {
    /// c_fc(x), [B·T, I]; its activation is computed again.
    pub fc: Tensor,
}

impl MlpSaved {
    /// For up to `n_rows` rows.
    pub fn new(config: &ModelConfig, n_rows: usize, alloc: &mut Alloc<'_>) -> MlpSaved {
        MlpSaved { fc: alloc.zeros([n_rows, config.inner_size()]) }
    }

    /// For a smaller batch.
    ///
    /// # Panics
    /// If the capacity is exceeded.
    pub fn set_rows(&mut self, n_rows: usize) {
        self.fc.set_rows(n_rows);
    }
}

impl Mlp {
    pub(super) fn zeros(zeros: &mut Zeros<'_, '_>) -> Mlp {
        Mlp {
            c_fc: Linear::zeros(zeros, &C_FC, &C_FC_BIAS),
            c_proj: Linear::zeros(zeros, &MLP_C_PROJ, &MLP_C_PROJ_BIAS),
            activation: zeros.config.activation,
        }
    }

    /// y [R, C]: the residual stream plus the MLP's result for x [R, C]; `inner` [R, I] is overwritten.
    ///
    /// # Panics
    /// If the sizes do not agree, or exceed the capacity of the buffers.
    pub fn forward_residual(
        &self,
        dev: &Device,
        x: &Tensor,
        residual: Residual<'_>,
        y: &mut Tensor,
        saved: &mut MlpSaved,
        inner: &mut Tensor,
        adapters: &mut AdapterScratch,
    ) {
        self.c_fc.forward_activation(dev, self.activation, x, &mut saved.fc, inner, adapters);
        self.c_proj.forward_residual(dev, inner, residual, y, adapters);
    }

    /// dx from dy, the gradient of the MLP's result; `grad` is added to, `inner` and `dfc` [R, I] are overwritten.
    ///
    /// # Panics
    /// If the sizes do not agree, or exceed the capacity of the buffers.
    pub fn backward(
        &self,
        dev: &Device,
        dy: &Tensor,
        x: &Tensor,
        saved: &MlpSaved,
        dx: &mut Tensor,
        grad: &mut Mlp,
        inner: &mut Tensor,
        dfc: &mut Tensor,
        adapters: &mut AdapterScratch,
    ) {
        let grad_proj = &mut grad.c_proj;
        self.c_proj.backward_activation(dev, self.activation, dy, &saved.fc, dfc, inner, grad_proj, adapters);
        self.c_fc.backward(dev, dfc, x, dx, &mut grad.c_fc, adapters);
    }
}
