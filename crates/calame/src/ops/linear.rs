//! Products of linear layers, each with what is done to its result while that is in the cache.

use calame_kernels::{self as kernels, DropMask, Epilogue, Init, MatMut, MatRef};

use super::{Device, Phase, Work};
use crate::tensor::Tensor;

pub(super) fn matrix(x: &Tensor) -> MatRef<'_> {
    MatRef::dense(x.as_slice(), x.n_rows(), x.row_len())
}

pub(super) fn matrix_mut(x: &mut Tensor) -> MatMut<'_> {
    let (rows, cols) = (x.n_rows(), x.row_len());
    MatMut::dense(x.as_mut_slice(), rows, cols)
}

/// The end of a branch of the residual stream: what a layer's result is dropped out by and added to.
#[derive(Clone, Copy, Debug)]
pub struct Residual<'a> {
    /// The stream before the branch, [R, C].
    pub x: &'a Tensor,
    /// Which elements of the branch stay; without it all do.
    pub keep: Option<&'a DropMask<'a>>,
    /// T: rows that belong to one sequence.
    pub rows_per_sequence: usize,
}

/// y [R, OC] = x [R, C] · weightᵀ [OC, C] + bias `[OC]`.
pub fn linear_forward(dev: &Device, x: &Tensor, weight: &Tensor, bias: &Tensor, y: &mut Tensor) {
    forward(dev, x, weight, bias, y, Epilogue::None);
}

/// As [`linear_forward`]; `gelu` becomes gelu(y).
pub fn linear_gelu_forward(
    dev: &Device,
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    y: &mut Tensor,
    gelu: &mut Tensor,
) {
    forward(dev, x, weight, bias, y, Epilogue::Gelu { y: gelu.as_mut_slice() });
}

/// As [`linear_forward`]; y becomes `residual.x` + y·keep.
pub fn linear_residual_forward(
    dev: &Device,
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    residual: Residual<'_>,
    y: &mut Tensor,
) {
    let Residual { x: stream, keep, rows_per_sequence } = residual;
    forward(dev, x, weight, bias, y, Epilogue::AddDropped { x: stream.as_slice(), keep, rows_per_sequence });
}

fn forward(dev: &Device, x: &Tensor, weight: &Tensor, bias: &Tensor, y: &mut Tensor, epilogue: Epilogue<'_>) {
    let init = if bias.is_empty() { Init::Zero } else { Init::Bias(bias.as_slice()) };
    let work = Work::product(x.n_rows(), x.row_len(), y.row_len());
    dev.run(Phase::LinearForward, work, |pool| {
        kernels::gemm_then(pool, dev.precision(), matrix(x), matrix(weight).t(), matrix_mut(y), init, epilogue);
    });
}

/// dx [R, C] = dy [R, OC] · weight [OC, C].
pub fn linear_backward_input(dev: &Device, dy: &Tensor, weight: &Tensor, dx: &mut Tensor) {
    backward_input(dev, dy, weight, dx, Epilogue::None);
}

/// As [`linear_backward_input`] for a layer whose input was gelu(x): dx is the gradient of x, and `gelu` becomes gelu(x).
pub fn linear_gelu_backward_input(
    dev: &Device,
    dy: &Tensor,
    weight: &Tensor,
    x: &Tensor,
    dx: &mut Tensor,
    gelu: &mut Tensor,
) {
    backward_input(dev, dy, weight, dx, Epilogue::GeluBackward { x: x.as_slice(), y: gelu.as_mut_slice() });
}

fn backward_input(dev: &Device, dy: &Tensor, weight: &Tensor, dx: &mut Tensor, epilogue: Epilogue<'_>) {
    let work = Work::product(dy.n_rows(), dy.row_len(), dx.row_len());
    dev.run(Phase::LinearBackwardInput, work, |pool| {
        kernels::gemm_then(pool, dev.precision(), matrix(dy), matrix(weight), matrix_mut(dx), Init::Zero, epilogue);
    });
}

/// dweight += dyᵀ·x; dbias += Σ dy.
pub fn linear_backward_weight(dev: &Device, dy: &Tensor, x: &Tensor, dweight: &mut Tensor, dbias: &mut Tensor) {
    if !dweight.is_empty() {
        let work = Work::product(dy.row_len(), dy.n_rows(), x.row_len());
        dev.run(Phase::LinearBackwardWeight, work, |pool| {
            kernels::gemm(pool, dev.precision(), matrix(dy).t(), matrix(x), matrix_mut(dweight), Init::Add);
        });
    }
    if !dbias.is_empty() {
        dev.run(Phase::LinearBackwardBias, Work::passes(dy.len()), |pool| {
            kernels::sum_rows_add(pool, dy.as_slice(), dbias.as_mut_slice());
        });
    }
}
