//! A linear layer: y = x·Wᵀ + b, plus the results of its adapters.

use super::adapter::{Adapter, AdapterScratch};
use super::params::Param;
use super::zeros::Zeros;
use crate::ops::{self, Activation, Device, Epilogue, Phase, Residual};
use crate::tensor::{Alloc, Tensor};

/// Parameters of a linear layer.
#[derive(Clone, Debug)]
pub struct Linear {
    /// [OC, C]: a row for each output channel.
    pub weight: Tensor,
    /// `[OC]`; absent in a layer without bias.
    pub bias: Tensor,
    /// Low-rank adapters, each on a range of the output columns.
    pub adapters: Vec<Adapter>,
}

impl Linear {
    pub(super) fn zeros(zeros: &mut Zeros<'_, '_>, weight: &'static Param, bias: &'static Param) -> Linear {
        Linear { weight: zeros.tensor(weight), bias: zeros.tensor(bias), adapters: Vec::new() }
    }

    /// Whether the adapters of both layers have the same ranks, columns and scales.
    pub(super) fn has_adapters_like(&self, other: &Linear) -> bool {
        self.adapters.len() == other.adapters.len()
            && self.adapters.iter().zip(&other.adapters).all(|(a, b)| a.is_like(b))
    }

    /// Gives this layer, of gradients or moments, zeros for every adapter of `layer`.
    pub(super) fn mirror_adapters(&mut self, layer: &Linear, alloc: &mut Alloc<'_>) {
        self.adapters = layer.adapters.iter().map(|adapter| adapter.zeros_like(alloc)).collect();
    }

    /// y [R, OC] from x [R, C].
    ///
    /// # Panics
    /// If the sizes do not agree, or exceed the capacity of the buffers.
    pub fn forward(&self, dev: &Device, x: &Tensor, y: &mut Tensor, scratch: &mut AdapterScratch) {
        self.forward_then(dev, x, y, scratch, Epilogue::None);
    }

    /// y [R, OC] from x [R, C], and the activation of y in `activated`.
    ///
    /// # Panics
    /// If the sizes do not agree, or exceed the capacity of the buffers.
    pub fn forward_activation(
        &self,
        dev: &Device,
        activation: Activation,
        x: &Tensor,
        y: &mut Tensor,
        activated: &mut Tensor,
        scratch: &mut AdapterScratch,
    ) {
        self.forward_then(dev, x, y, scratch, Epilogue::Activation { activation, y: activated });
    }

    /// y [R, OC]: the residual stream plus what the layer computes from x [R, C], dropped out.
    ///
    /// # Panics
    /// If the sizes do not agree, or exceed the capacity of the buffers.
    pub fn forward_residual(
        &self,
        dev: &Device,
        x: &Tensor,
        residual: Residual<'_>,
        y: &mut Tensor,
        scratch: &mut AdapterScratch,
    ) {
        self.forward_then(dev, x, y, scratch, residual.into());
    }

    fn forward_then(
        &self,
        dev: &Device,
        x: &Tensor,
        y: &mut Tensor,
        scratch: &mut AdapterScratch,
        epilogue: Epilogue<'_>,
    ) {
        let accumulate = self.adapters_forward(dev, x, y, scratch);
        let (x, y) = (x.view(), y.view_mut());
        ops::linear_forward(dev, Phase::LinearForward, x, &self.weight, &self.bias, accumulate, y, epilogue);
    }

    /// dx from dy; `grad` is added to.
    ///
    /// # Panics
    /// If the sizes do not agree, or exceed the capacity of the buffers.
    pub fn backward(
        &self,
        dev: &Device,
        dy: &Tensor,
        x: &Tensor,
        dx: &mut Tensor,
        grad: &mut Linear,
        scratch: &mut AdapterScratch,
    ) {
        ops::linear_backward_weight(dev, dy, x, &mut grad.weight, &mut grad.bias);
        self.adapters_backward_weight(dev, dy, x, grad, scratch);
        let accumulate = self.adapters_backward_input(dev, dy, dx, scratch);
        ops::linear_backward_input(dev, dy, &self.weight, accumulate, dx);
    }

    /// dx from dy where the layer's input was activation(x), which is computed again in `activated`; `grad` is added to.
    ///
    /// # Panics
    /// If the sizes do not agree, or exceed the capacity of the buffers.
    pub fn backward_activation(
        &self,
        dev: &Device,
        activation: Activation,
        dy: &Tensor,
        x: &Tensor,
        dx: &mut Tensor,
        activated: &mut Tensor,
        grad: &mut Linear,
        scratch: &mut AdapterScratch,
    ) {
        let accumulate = self.adapters_backward_input(dev, dy, dx, scratch);
        ops::linear_activation_backward_input(dev, activation, dy, &self.weight, x, accumulate, dx, activated);
        ops::linear_backward_weight(dev, dy, activated, &mut grad.weight, &mut grad.bias);
        self.adapters_backward_weight(dev, dy, activated, grad, scratch);
    }

    /// The largest rank of its adapters; 0 without any.
    pub fn rank(&self) -> usize {
        self.adapters.iter().map(Adapter::rank).max().unwrap_or(0)
    }

    /// y becomes the sum of the adapters' results, if there is any adapter; returns whether there is.
    fn adapters_forward(&self, dev: &Device, x: &Tensor, y: &mut Tensor, scratch: &mut AdapterScratch) -> bool {
        if self.adapters.is_empty() {
            return false;
        }
        ops::fill(dev, 0.0, y);
        for adapter in &self.adapters {
            let (inner, _) = scratch.shaped(x.n_rows(), adapter.rank());
            ops::low_rank_forward(dev, x, &adapter.weights(), inner, y);
        }
        true
    }

    /// dx becomes the sum of the adapters' shares, if there is any adapter; returns whether there is.
    fn adapters_backward_input(
        &self,
        dev: &Device,
        dy: &Tensor,
        dx: &mut Tensor,
        scratch: &mut AdapterScratch,
    ) -> bool {
        if self.adapters.is_empty() {
            return false;
        }
        ops::fill(dev, 0.0, dx);
        for adapter in &self.adapters {
            let (_, dinner) = scratch.shaped(dy.n_rows(), adapter.rank());
            ops::low_rank_backward_input(dev, dy, &adapter.weights(), dinner, dx);
        }
        true
    }

    /// The gradients of the adapters' factors are added to `grad`'s.
    fn adapters_backward_weight(
        &self,
        dev: &Device,
        dy: &Tensor,
        x: &Tensor,
        grad: &mut Linear,
        scratch: &mut AdapterScratch,
    ) {
        for (adapter, grad) in self.adapters.iter().zip(&mut grad.adapters) {
            let (inner, dinner) = scratch.shaped(x.n_rows(), adapter.rank());
            let (da, db) = (&mut grad.a, &mut grad.b);
            ops::low_rank_backward_weight(dev, dy, x, &adapter.weights(), inner, dinner, da, db);
        }
    }
}
