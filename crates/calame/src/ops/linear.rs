//! Products of linear layers, each with what is done to its result while that is in the cache.

use std::ops::Range;

use super::{Activation, Device, DropMask, Epilogue, Init, Phase, Work, scale};
use crate::tensor::{Tensor, View, ViewMut};

/// The end of a branch of the residual stream: what a layer's result is dropped out by and added to.
#[derive(Clone, Copy, Debug)]
pub struct Residual<'a> {
    /// The stream before the branch, [R, C].
    pub x: &'a Tensor,
    /// Which elements of the branch stay; without it all do.
    pub mask: Option<&'a DropMask<'a>>,
    /// T: rows that belong to one sequence.
    pub rows_per_sequence: usize,
}

impl<'a> From<Residual<'a>> for Epilogue<'a> {
    fn from(residual: Residual<'a>) -> Epilogue<'a> {
        let Residual { x, mask, rows_per_sequence } = residual;
        Epilogue::Residual { x, mask, rows_per_sequence }
    }
}

/// y [R, OC] = epilogue(x [R, C] · weightᵀ [OC, C] + bias `[OC]`), timed under `phase`.
///
/// With `accumulate` what y holds is added before the epilogue: y starts from the results of low-rank adapters.
///
/// # Panics
/// If the sizes do not agree, or a tensor is not on the device.
pub fn linear_forward(
    dev: &Device,
    phase: Phase,
    x: View<'_>,
    weight: &Tensor,
    bias: &Tensor,
    accumulate: bool,
    y: ViewMut<'_>,
    epilogue: Epilogue<'_>,
) {
    let init = match (accumulate, bias.is_empty()) {
        (false, true) => Init::Zero,
        (false, false) => Init::Bias(bias),
        (true, true) => Init::Add,
        (true, false) => Init::AddBias(bias),
    };
    product(dev, phase, x, weight.view().t(), y, init, epilogue);
}

/// dx [R, C] = dy [R, OC] · weight [OC, C], added to what dx holds with `accumulate`.
///
/// # Panics
/// If the sizes do not agree, or a tensor is not on the device.
pub fn linear_backward_input(dev: &Device, dy: &Tensor, weight: &Tensor, accumulate: bool, dx: &mut Tensor) {
    let init = if accumulate { Init::Add } else { Init::Zero };
    product(dev, Phase::LinearBackwardInput, dy.view(), weight.view(), dx.view_mut(), init, Epilogue::None);
}

/// As [`linear_backward_input`] for a layer whose input was activation(x): dx is the gradient of x, and `y` becomes
/// activation(x).
///
/// # Panics
/// If the sizes do not agree, or a tensor is not on the device.
pub fn linear_activation_backward_input(
    dev: &Device,
    activation: Activation,
    dy: &Tensor,
    weight: &Tensor,
    x: &Tensor,
    accumulate: bool,
    dx: &mut Tensor,
    y: &mut Tensor,
) {
    let init = if accumulate { Init::Add } else { Init::Zero };
    let epilogue = Epilogue::ActivationBackward { activation, x, y };
    product(dev, Phase::LinearBackwardInput, dy.view(), weight.view(), dx.view_mut(), init, epilogue);
}

/// dweight += dyᵀ·x; dbias += Σ dy.
///
/// # Panics
/// If the sizes do not agree, or a tensor is not on the device.
pub fn linear_backward_weight(dev: &Device, dy: &Tensor, x: &Tensor, dweight: &mut Tensor, dbias: &mut Tensor) {
    if !dweight.is_empty() {
        let (phase, dweight) = (Phase::LinearBackwardWeight, dweight.view_mut());
        product(dev, phase, dy.view().t(), x.view(), dweight, Init::Add, Epilogue::None);
    }
    if !dbias.is_empty() {
        dev.run(Phase::LinearBackwardBias, Work::passes(dy.len()), |on| on.sum_rows_add(dy, dbias));
    }
}

/// The weights of a low-rank adapter of a linear layer (E. Hu et al., "LoRA", 2021): it adds scale·(x·aᵀ)·bᵀ to a range of
/// the layer's output columns.
#[derive(Clone, Debug)]
pub struct LowRank<'a> {
    /// Factor A, [rank, C].
    pub a: &'a Tensor,
    /// Factor B, [columns, rank].
    pub b: &'a Tensor,
    /// The factor of the product, alpha / rank.
    pub scale: f32,
    /// The output columns that it adds to.
    pub columns: Range<usize>,
}

/// Adds the adapter's result to y [R, OC]; `inner` [R, rank] becomes scale·x·aᵀ.
///
/// # Panics
/// If the sizes do not agree, the layer lacks one of the adapter's columns, or a tensor is not on the device.
pub fn low_rank_forward(dev: &Device, x: &Tensor, adapter: &LowRank<'_>, inner: &mut Tensor, y: &mut Tensor) {
    inner_product(dev, x, adapter, inner);
    let y = y.view_mut().columns(adapter.columns.clone());
    product(dev, Phase::LinearForward, inner.view(), adapter.b.view().t(), y, Init::Add, Epilogue::None);
}

/// dx += scale·(dy·b)·a, of the adapter's columns of dy; `dinner` [R, rank] becomes scale·dy·b.
///
/// # Panics
/// If the sizes do not agree, the layer lacks one of the adapter's columns, or a tensor is not on the device.
pub fn low_rank_backward_input(dev: &Device, dy: &Tensor, adapter: &LowRank<'_>, dinner: &mut Tensor, dx: &mut Tensor) {
    inner_gradient(dev, dy, adapter, dinner);
    let (phase, a) = (Phase::LinearBackwardInput, adapter.a.view());
    product(dev, phase, dinner.view(), a, dx.view_mut(), Init::Add, Epilogue::None);
}

/// da += dinnerᵀ·x and db += dyᵀ·inner, unless they are absent; `inner` and `dinner` [R, rank] are overwritten.
///
/// # Panics
/// If the sizes do not agree, or a tensor is not on the device.
pub fn low_rank_backward_weight(
    dev: &Device,
    dy: &Tensor,
    x: &Tensor,
    adapter: &LowRank<'_>,
    inner: &mut Tensor,
    dinner: &mut Tensor,
    da: &mut Tensor,
    db: &mut Tensor,
) {
    let phase = Phase::LinearBackwardWeight;
    if !db.is_empty() {
        inner_product(dev, x, adapter, inner);
        let dy = dy.view().columns(adapter.columns.clone()).t();
        product(dev, phase, dy, inner.view(), db.view_mut(), Init::Add, Epilogue::None);
    }
    if !da.is_empty() {
        inner_gradient(dev, dy, adapter, dinner);
        product(dev, phase, dinner.view().t(), x.view(), da.view_mut(), Init::Add, Epilogue::None);
    }
}

/// inner [R, rank] = scale·x·aᵀ.
fn inner_product(dev: &Device, x: &Tensor, adapter: &LowRank<'_>, inner: &mut Tensor) {
    let a = adapter.a.view().t();
    product(dev, Phase::LinearForward, x.view(), a, inner.view_mut(), Init::Zero, Epilogue::None);
    scale(dev, adapter.scale, inner);
}

/// dinner [R, rank] = scale·dy·b, of the adapter's columns of dy.
fn inner_gradient(dev: &Device, dy: &Tensor, adapter: &LowRank<'_>, dinner: &mut Tensor) {
    let (phase, dy) = (Phase::LinearBackwardInput, dy.view().columns(adapter.columns.clone()));
    product(dev, phase, dy, adapter.b.view(), dinner.view_mut(), Init::Zero, Epilogue::None);
    scale(dev, adapter.scale, dinner);
}

/// c = epilogue(init + a·b).
///
/// # Panics
/// If the sizes do not agree.
pub(super) fn product(
    dev: &Device,
    phase: Phase,
    a: View<'_>,
    b: View<'_>,
    c: ViewMut<'_>,
    init: Init<'_>,
    epilogue: Epilogue<'_>,
) {
    let ([m, k], [k2, n], [m2, n2]) = (a.dims(), b.dims(), c.dims());
    assert!(m == m2 && k == k2 && n == n2, "product: [{m}, {k}] times [{k2}, {n}] into [{m2}, {n2}]");
    dev.run(phase, Work::product(m, k, n), |on| on.product(a, b, c, init, epilogue));
}
