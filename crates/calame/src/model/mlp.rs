//! The block's second half: y = c_proj(gelu(c_fc(x))), four times as wide inside.

use super::Linear;
use super::adapter::AdapterScratch;
use super::params::{C_FC, C_FC_BIAS, MLP_C_PROJ, MLP_C_PROJ_BIAS};
use super::zeros::Zeros;
use crate::ops::{Device, Residual};
use crate::tensor::{Alloc, Tensor};

/// Parameters of the MLP.
#[derive(Clone, Debug)]
pub struct Mlp {
    /// [4C, C]: widens the residual stream.
    pub c_fc: Linear,
    /// [C, 4C]: back to the residual stream.
    pub c_proj: Linear,
}

/// What backward reads besides the layer's input.
#[derive(Debug)]
pub struct MlpSaved {
    /// c_fc(x), [B·T, 4C]; its GELU is computed again.
    pub fc: Tensor,
}

impl MlpSaved {
    /// For up to `n_rows` rows of width `c`.
    pub fn new(n_rows: usize, c: usize, alloc: &mut Alloc<'_>) -> MlpSaved {
        MlpSaved { fc: alloc.zeros([n_rows, 4 * c]) }
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
        }
    }

    /// y [R, C]: the residual stream plus the MLP's result for x [R, C]; `gelu` [R, 4C] is overwritten.
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
        gelu: &mut Tensor,
        adapters: &mut AdapterScratch,
    ) {
        self.c_fc.forward_gelu(dev, x, &mut saved.fc, gelu, adapters);
        self.c_proj.forward_residual(dev, gelu, residual, y, adapters);
    }

    /// dx from dy, the gradient of the MLP's result; `grad` is added to, `gelu` and `dfc` [R, 4C] are overwritten.
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
        gelu: &mut Tensor,
        dfc: &mut Tensor,
        adapters: &mut AdapterScratch,
    ) {
        self.c_proj.backward_gelu(dev, dy, &saved.fc, dfc, gelu, &mut grad.c_proj, adapters);
        self.c_fc.backward(dev, dfc, x, dx, &mut grad.c_fc, adapters);
    }
}
