//! The block's second half: y = c_proj(gelu(c_fc(x))), four times as wide inside.

use super::Linear;
use crate::ops::{Device, Residual};
use crate::tensor::{Rooms, Tensor};

/// Parameters of the MLP.
#[derive(Clone, Debug)]
pub struct Mlp {
    /// [4C, C].
    pub c_fc: Linear,
    /// [C, 4C].
    pub c_proj: Linear,
}

/// What backward reads besides the layer's input.
#[derive(Debug)]
pub struct MlpSaved {
    /// c_fc(x), [B·T, 4C]; its gelu is made again.
    pub fc: Tensor,
}

/// Work space.
#[derive(Debug)]
pub struct MlpScratch {
    gelu: Tensor,
    dfc: Tensor,
}

impl MlpSaved {
    /// For up to `n_rows` rows of width `c`.
    pub fn new(n_rows: usize, c: usize, rooms: &mut Rooms) -> MlpSaved {
        MlpSaved { fc: rooms.zeros([n_rows, 4 * c]) }
    }

    /// For a smaller batch.
    pub fn set_rows(&mut self, n_rows: usize) {
        self.fc.set_rows(n_rows);
    }
}

impl MlpScratch {
    /// For up to `n_rows` rows of width `c`.
    pub fn new(n_rows: usize, c: usize, rooms: &mut Rooms) -> MlpScratch {
        MlpScratch { gelu: rooms.zeros([n_rows, 4 * c]), dfc: rooms.zeros([n_rows, 4 * c]) }
    }

    /// For a smaller batch.
    pub fn set_rows(&mut self, n_rows: usize) {
        self.gelu.set_rows(n_rows);
        self.dfc.set_rows(n_rows);
    }
}

impl Mlp {
    /// Zeros of width `c`.
    pub fn zeros(c: usize) -> Mlp {
        Mlp { c_fc: Linear::zeros(c, 4 * c, true), c_proj: Linear::zeros(4 * c, c, true) }
    }

    /// y [R, C]: the residual stream plus the MLP's result for x [R, C].
    pub fn forward_residual(
        &self,
        dev: &Device,
        x: &Tensor,
        residual: Residual<'_>,
        y: &mut Tensor,
        saved: &mut MlpSaved,
        scratch: &mut MlpScratch,
    ) {
        self.c_fc.forward_gelu(dev, x, &mut saved.fc, &mut scratch.gelu);
        self.c_proj.forward_residual(dev, &scratch.gelu, residual, y);
    }

    /// dx from dy, the gradient of the MLP's result; `grad` is added to.
    pub fn backward(
        &self,
        dev: &Device,
        dy: &Tensor,
        x: &Tensor,
        saved: &MlpSaved,
        dx: &mut Tensor,
        grad: &mut Mlp,
        scratch: &mut MlpScratch,
    ) {
        self.c_proj.backward_gelu(dev, dy, &saved.fc, &mut scratch.dfc, &mut scratch.gelu, &mut grad.c_proj);
        self.c_fc.backward(dev, &scratch.dfc, x, dx, &mut grad.c_fc);
    }
}
