//! Sums over rows, the optimizer's update and other element-wise operations, each in one pass over memory.

use crate::disjoint_mut::DisjointMut;
use crate::isa::multiversion;
use crate::math::sum_of;
use crate::pool::Pool;
use crate::split::{COLUMNS, TASK_ELEMENTS, for_rows};

/// Adds the sum over the rows of dy [R, cols] to dbias `[cols]`, the gradient of a bias.
///
/// # Panics
/// If the sizes do not agree.
pub fn sum_rows_add(pool: &Pool, dy: &[f32], dbias: &mut [f32]) {
    let cols = dbias.len();
    assert!(cols > 0 && dy.len().is_multiple_of(cols), "sum_rows_add: {} elements, {cols} columns", dy.len());
    let dbias = DisjointMut::new(dbias);
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

/// The scalars of an AdamW step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// The learning rate of this step.
    pub lr: f32,
    /// Decay of the running mean of gradients.
    pub beta1: f32,
    /// Decay of the running mean of squared gradients.
    pub beta2: f32,
    /// Added to the square root, against division by zero.
    pub eps: f32,
    /// λ: each step multiplies the weight by 1 − `lr`·λ.
    pub weight_decay: f32,
    /// 1 − β₁ᵗ, where t is the number of this step, counted from 1.
    pub bias_correction1: f32,
    /// 1 − β₂ᵗ, with the same t.
    pub bias_correction2: f32,
    /// The factor by which gradients are multiplied before use: below 1 if their norm is clipped.
    pub grad_scale: f32,
}

impl AdamW {
    /// The factor by which weight decay multiplies a weight.
    #[inline(always)]
    fn decay_factor(&self) -> f32 {
        1.0 - self.lr * self.weight_decay
    }
}

/// Performs one AdamW step on one tensor, in one pass: `weight`, `m` and `v` are updated, `grad` is set to zero.
///
/// With g the gradient times `grad_scale`:
/// w ← w·(1 − lr·λ); m ← m + (1 − β₁)·(g − m); v ← β₂·v + (1 − β₂)·g²; w ← w − lr/c₁·m / (√v/√c₂ + ε).
/// I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", 2019, in PyTorch's order of operations.
///
/// # Panics
/// If the lengths differ.
pub fn adamw(pool: &Pool, hyper: &AdamW, weight: &mut [f32], grad: &mut [f32], m: &mut [f32], v: &mut [f32]) {
    let n = weight.len();
    assert!(grad.len() == n && m.len() == n && v.len() == n, "adamw: lengths");
    let (grad, m, v) = (DisjointMut::new(grad), DisjointMut::new(m), DisjointMut::new(v));
    let weight = DisjointMut::new(weight);
    pool.run(n.div_ceil(TASK_ELEMENTS), |task| {
        let (from, to) = (task * TASK_ELEMENTS, ((task + 1) * TASK_ELEMENTS).min(n));
        // SAFETY: tasks have different elements.
        unsafe {
            let (w, g) = (weight.part(from, to), grad.part(from, to));
            adamw_slice(pool.isa(), hyper, w, g, m.part(from, to), v.part(from, to));
        }
    });
}

/// As [`adamw`], for a tensor of rows of which only the `touched` ones have ever had a nonzero gradient.
///
/// Gradient and moments of the other rows must be zero. They are not read: the step reduces to weight decay there. The
/// result is that of [`adamw`] to the bit.
///
/// # Panics
/// If the sizes do not agree.
pub fn adamw_rows(
    pool: &Pool,
    hyper: &AdamW,
    touched: &[bool],
    weight: &mut [f32],
    grad: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
) {
    let (n, rows) = (weight.len(), touched.len());
    assert!(grad.len() == n && m.len() == n && v.len() == n, "adamw_rows: lengths");
    assert!(rows > 0 && n > 0 && n.is_multiple_of(rows), "adamw_rows: {n} elements in {rows} rows");
    let cols = n / rows;
    let (grad, m, v) = (DisjointMut::new(grad), DisjointMut::new(m), DisjointMut::new(v));
    for_rows(pool, weight, cols, |first, weight| {
        for (row, w) in (first..).zip(weight.chunks_exact_mut(cols)) {
            if touched[row] {
                let (from, to) = (row * cols, (row + 1) * cols);
                // SAFETY: tasks have different rows.
                let (g, m, v) = unsafe { (grad.part(from, to), m.part(from, to), v.part(from, to)) };
                adamw_slice(pool.isa(), hyper, w, g, m, v);
            } else {
                scale(pool.isa(), hyper.decay_factor(), w);
            }
        }
    });
}

/// Adds a multiple of x to y: y ← y + α·x.
///
/// # Panics
/// If the lengths differ.
pub fn add_scaled(pool: &Pool, alpha: f32, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "add_scaled: lengths");
    for_rows(pool, y, 1, |first, y| add_scaled_slice(pool.isa(), alpha, &x[first..first + y.len()], y));
}

multiversion! { fn add_scaled_slice(alpha: f32, x: &[f32], y: &mut [f32]) = add_scaled_slice_body; }

#[inline(always)]
fn add_scaled_slice_body(alpha: f32, x: &[f32], y: &mut [f32]) {
    y.iter_mut().zip(x).for_each(|(y, &x)| *y += alpha * x);
}

/// Sums the squares of `x` in f64, for the norm of a gradient; the sum is not finite if an element is not.
///
/// Runs of 4,096 elements are summed in lanes of f32, the runs in f64. The order depends only on the length.
pub fn sum_of_squares(pool: &Pool, x: &[f32]) -> f64 {
    /// Number of partial sums; they are on the stack, so that nothing is allocated.
    const PARTS: usize = 256;
    let len = x.len().div_ceil(PARTS).next_multiple_of(TASK_ELEMENTS);
    let mut sums = [0.0; PARTS];
    let parts = DisjointMut::new(&mut sums);
    pool.run(x.len().div_ceil(len.max(1)), |task| {
        let part = &x[task * len..((task + 1) * len).min(x.len())];
        // SAFETY: tasks have different elements.
        unsafe { parts.part(task, task + 1)[0] = squares(pool.isa(), part) };
    });
    sums.iter().sum()
}

multiversion! { fn squares(x: &[f32]) -> f64 = squares_body; }

#[inline(always)]
fn squares_body(x: &[f32]) -> f64 {
    x.chunks(4096).map(|x| f64::from(sum_of(x, |x| x * x))).sum()
}

multiversion! {
    /// Adds x to y.
    pub(crate) fn add(x: &[f32], y: &mut [f32]) = add_body;
}

#[inline(always)]
fn add_body(x: &[f32], y: &mut [f32]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
}

multiversion! {
    /// Multiplies x by a factor in place.
    pub(crate) fn scale(factor: f32, x: &mut [f32]) = scale_body;
}

#[inline(always)]
fn scale_body(factor: f32, x: &mut [f32]) {
    x.iter_mut().for_each(|x| *x *= factor);
}

multiversion! {
    fn adamw_slice(hyper: &AdamW, weight: &mut [f32], grad: &mut [f32], m: &mut [f32], v: &mut [f32])
        = adamw_slice_body;
}

#[inline(always)]
fn adamw_slice_body(hyper: &AdamW, weight: &mut [f32], grad: &mut [f32], m: &mut [f32], v: &mut [f32]) {
    let keep = hyper.decay_factor();
    let step = hyper.lr / hyper.bias_correction1;
    let root = 1.0 / hyper.bias_correction2.sqrt();
    for (((w, grad), m), v) in weight.iter_mut().zip(grad.iter_mut()).zip(m.iter_mut()).zip(v.iter_mut()) {
        let g = *grad * hyper.grad_scale;
        *grad = 0.0;
        *m += (1.0 - hyper.beta1) * (g - *m);
        *v = hyper.beta2 * *v + (1.0 - hyper.beta2) * g * g;
        *w = *w * keep - step * (*m / (v.sqrt() * root + hyper.eps));
    }
}
