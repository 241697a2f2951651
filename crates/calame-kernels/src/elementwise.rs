//! GELU, sums over rows, the optimizer's update: one pass over memory each.

use crate::isa::multiversion;
use crate::math::sigmoid;
use crate::pool::{Pool, Shards};
use crate::split::{COLUMNS, TASK_ELEMENTS, for_rows};

/// √(2/π).
const SQRT_2_PI: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;

/// y = gelu(x) by the tanh form: x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))); y is overwritten.
///
/// D. Hendrycks and K. Gimpel, "Gaussian error linear units", 2016. With 1 + tanh(u) = 2·σ(2u) it is x·σ(2u), and its
/// error that of one exponential: within 4 units in the last place for x > −5, absolutely below 1e-6 elsewhere.
///
/// # Panics
/// If the lengths differ.
pub fn gelu_forward(pool: &Pool, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "gelu_forward: lengths");
    for_rows(pool, y, 1, |from, y| gelu_slice(pool.isa(), &x[from..from + y.len()], y));
}

multiversion! { fn gelu_slice(x: &[f32], y: &mut [f32]) = gelu_slice_body; }

#[inline(always)]
fn gelu_slice_body(x: &[f32], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = x * sigmoid(2.0 * SQRT_2_PI * (x + CUBIC * x * x * x));
    }
}

/// dy ← dy·gelu′(x), in place: what was the gradient of gelu's result becomes that of its argument.
///
/// # Panics
/// If the lengths differ.
pub fn gelu_backward_in_place(pool: &Pool, x: &[f32], dy: &mut [f32]) {
    assert_eq!(x.len(), dy.len(), "gelu_backward_in_place: lengths");
    for_rows(pool, dy, 1, |from, dy| gelu_grad_slice(pool.isa(), &x[from..from + dy.len()], dy));
}

multiversion! { fn gelu_grad_slice(x: &[f32], dy: &mut [f32]) = gelu_grad_slice_body; }

#[inline(always)]
fn gelu_grad_slice_body(x: &[f32], dy: &mut [f32]) {
    for (dy, &x) in dy.iter_mut().zip(x) {
        let s = sigmoid(2.0 * SQRT_2_PI * (x + CUBIC * x * x * x));
        let du2 = 2.0 * SQRT_2_PI * (1.0 + 3.0 * CUBIC * x * x);
        *dy *= s + x * s * (1.0 - s) * du2;
    }
}

/// dbias += Σ over rows of dy [rows, cols]: the gradient of a bias.
///
/// # Panics
/// If the sizes do not agree.
pub fn sum_rows_add(pool: &Pool, dy: &[f32], dbias: &mut [f32]) {
    let cols = dbias.len();
    assert!(cols > 0 && dy.len().is_multiple_of(cols), "sum_rows_add: {} elements, {cols} columns", dy.len());
    let dbias = Shards::new(dbias);
    pool.run(cols.div_ceil(COLUMNS), |task| {
        let (from, to) = (task * COLUMNS, ((task + 1) * COLUMNS).min(cols));
        // SAFETY: tasks have different columns.
        sum_columns(pool.isa(), dy, cols, from, unsafe { dbias.part(from, to) });
    });
}

multiversion! { fn sum_columns(dy: &[f32], cols: usize, from: usize, dbias: &mut [f32]) = sum_columns_body; }

#[inline(always)]
fn sum_columns_body(dy: &[f32], cols: usize, from: usize, dbias: &mut [f32]) {
    let mut sums = [0.0; COLUMNS];
    for row in dy.chunks_exact(cols) {
        for (sum, &dy) in sums.iter_mut().zip(&row[from..from + dbias.len()]) {
            *sum += dy;
        }
    }
    dbias.iter_mut().zip(sums).for_each(|(to, s)| *to += s);
}

/// What one AdamW step needs besides the arrays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate.
    pub lr: f32,
    /// Decay of the running mean of gradients.
    pub beta1: f32,
    /// Decay of the running mean of squared gradients.
    pub beta2: f32,
    /// Added to the root, against division by zero.
    pub eps: f32,
    /// Share of a weight taken away in a step, before `lr`.
    pub weight_decay: f32,
    /// 1 − β₁ᵗ at this step t, counted from 1.
    pub bias_correction1: f32,
    /// 1 − β₂ᵗ.
    pub bias_correction2: f32,
}

/// One AdamW step on one tensor, in one pass; `m` and `v` are updated, `grad` is read and set to zero.
///
/// w ← w·(1 − lr·λ); m ← m + (1 − β₁)·(g − m); v ← β₂·v + (1 − β₂)·g²; w ← w − lr/c₁·m / (√v/√c₂ + ε).
/// I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", 2019, in PyTorch's order of operations.
///
/// # Panics
/// If the lengths differ.
pub fn adamw(pool: &Pool, hyper: &AdamW, weight: &mut [f32], grad: &mut [f32], m: &mut [f32], v: &mut [f32]) {
    let n = weight.len();
    assert!(grad.len() == n && m.len() == n && v.len() == n, "adamw: lengths");
    let (grad, m, v) = (Shards::new(grad), Shards::new(m), Shards::new(v));
    let weight = Shards::new(weight);
    pool.run(n.div_ceil(TASK_ELEMENTS), |task| {
        let (from, to) = (task * TASK_ELEMENTS, ((task + 1) * TASK_ELEMENTS).min(n));
        // SAFETY: tasks have different elements.
        unsafe {
            let (w, g) = (weight.part(from, to), grad.part(from, to));
            adamw_slice(pool.isa(), hyper, w, g, m.part(from, to), v.part(from, to));
        }
    });
}

multiversion! {
    fn adamw_slice(hyper: &AdamW, weight: &mut [f32], grad: &mut [f32], m: &mut [f32], v: &mut [f32])
        = adamw_slice_body;
}

#[inline(always)]
fn adamw_slice_body(hyper: &AdamW, weight: &mut [f32], grad: &mut [f32], m: &mut [f32], v: &mut [f32]) {
    let keep = 1.0 - hyper.lr * hyper.weight_decay;
    let step = hyper.lr / hyper.bias_correction1;
    let root = 1.0 / hyper.bias_correction2.sqrt();
    for (((w, grad), m), v) in weight.iter_mut().zip(grad.iter_mut()).zip(m.iter_mut()).zip(v.iter_mut()) {
        let g = *grad;
        *grad = 0.0;
        *m += (1.0 - hyper.beta1) * (g - *m);
        *v = hyper.beta2 * *v + (1.0 - hyper.beta2) * g * g;
        *w = *w * keep - step * (*m / (v.sqrt() * root + hyper.eps));
    }
}
