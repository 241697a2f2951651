//! The definition of every operation, as plain loops over f32 or f64; the fast versions are tested against it.
//!
//! There are no threads, no `unsafe`, and no optimisation. In f64 the gradients are checked against central
//! differences.

mod activation;
mod attention;
mod real;
mod rows;

pub use activation::{activation_backward, activation_forward};
pub use attention::{attention_backward, attention_extend, attention_forward, store_kv};
pub use real::Real;
use real::{count, zero};
pub use rows::{gather_rows, nonzero_rows, scatter_rows_add};

/// y [R, OC] = x [R, C] · weightᵀ [OC, C] + bias `[OC]`; an empty bias is skipped.
pub fn linear_forward<F: Real>(x: &[F], weight: &[F], bias: &[F], c: usize, y: &mut [F]) {
    let oc = weight.len() / c;
    for (x, y) in x.chunks_exact(c).zip(y.chunks_exact_mut(oc)) {
        for (o, y) in y.iter_mut().enumerate() {
            let dot: F = x.iter().zip(&weight[o * c..]).map(|(&x, &w)| x * w).sum();
            *y = if bias.is_empty() { dot } else { bias[o] + dot };
        }
    }
}

/// dx = dy·weight, overwritten; dweight += dyᵀ·x; dbias += Σ dy; an empty dbias is skipped.
pub fn linear_backward<F: Real>(
    dy: &[F],
    x: &[F],
    weight: &[F],
    c: usize,
    dx: &mut [F],
    dweight: &mut [F],
    dbias: &mut [F],
) {
    let oc = weight.len() / c;
    dx.fill(zero());
    for ((dy, x), dx) in dy.chunks_exact(oc).zip(x.chunks_exact(c)).zip(dx.chunks_exact_mut(c)) {
        for (o, &dy) in dy.iter().enumerate() {
            for i in 0..c {
                dx[i] += dy * weight[o * c + i];
                dweight[o * c + i] += dy * x[i];
            }
            if let Some(dbias) = dbias.get_mut(o) {
                *dbias += dy;
            }
        }
    }
}

fn mean_and_rstd<F: Real>(x: &[F], eps: f32) -> (F, F) {
    let n = count(x.len());
    let mean = x.iter().copied().sum::<F>() / n;
    let variance = x.iter().map(|&x| (x - mean) * (x - mean)).sum::<F>() / n;
    (mean, F::from(1.0) / (variance + F::from(eps)).sqrt())
}

/// Layer normalisation of each row of x [R, C]; an empty bias is skipped.
pub fn layer_norm_forward<F: Real>(x: &[F], weight: &[F], bias: &[F], eps: f32, y: &mut [F]) {
    let c = weight.len();
    for (x, y) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)) {
        let (mean, rstd) = mean_and_rstd(x, eps);
        for i in 0..c {
            let scaled = (x[i] - mean) * rstd * weight[i];
            y[i] = if bias.is_empty() { scaled } else { scaled + bias[i] };
        }
    }
}

/// Adds the gradients of layer normalisation to dx, dweight and dbias; an empty dbias is skipped.
pub fn layer_norm_backward_add<F: Real>(
    dy: &[F],
    x: &[F],
    weight: &[F],
    eps: f32,
    dx: &mut [F],
    dweight: &mut [F],
    dbias: &mut [F],
) {
    let c = weight.len();
    for ((dy, x), dx) in dy.chunks_exact(c).zip(x.chunks_exact(c)).zip(dx.chunks_exact_mut(c)) {
        let (mean, rstd) = mean_and_rstd(x, eps);
        let normal = |i: usize| (x[i] - mean) * rstd;
        let mean_g = (0..c).map(|i| dy[i] * weight[i]).sum::<F>() / count(c);
        let mean_gx = (0..c).map(|i| dy[i] * weight[i] * normal(i)).sum::<F>() / count(c);
        for i in 0..c {
            dx[i] += rstd * (dy[i] * weight[i] - mean_g - normal(i) * mean_gx);
            dweight[i] += dy[i] * normal(i);
            if let Some(dbias) = dbias.get_mut(i) {
                *dbias += dy[i];
            }
        }
    }
}

/// y row = `wte[token] + wpe[position]`.
pub fn embedding_forward<F: Real>(tokens: &[u32], positions: &[u32], wte: &[F], wpe: &[F], c: usize, y: &mut [F]) {
    for (r, y) in y.chunks_exact_mut(c).enumerate() {
        for (i, y) in y.iter_mut().enumerate() {
            *y = wte[tokens[r] as usize * c + i] + wpe[positions[r] as usize * c + i];
        }
    }
}

/// Adds the rows of dy to their tokens' rows of dwte and their positions' rows of dwpe.
pub fn embedding_backward<F: Real>(
    tokens: &[u32],
    positions: &[u32],
    dy: &[F],
    c: usize,
    dwte: &mut [F],
    dwpe: &mut [F],
) {
    for (r, dy) in dy.chunks_exact(c).enumerate() {
        for (i, &dy) in dy.iter().enumerate() {
            dwte[tokens[r] as usize * c + i] += dy;
            dwpe[positions[r] as usize * c + i] += dy;
        }
    }
}

/// Computes the loss of each row of logits [R, V], which is 0 if its weight is 0. Without `weights`, every weight is 1.
pub fn cross_entropy_forward<F: Real>(logits: &[F], targets: &[u32], weights: Option<&[F]>, losses: &mut [F]) {
    let v = logits.len() / targets.len().max(1);
    for (r, loss) in losses.iter_mut().enumerate() {
        *loss = zero();
        if weight_of(weights, r) != zero() {
            let z = &logits[r * v..(r + 1) * v];
            let (max, sum) = max_and_sum_of_exps(z);
            *loss = sum.ln() + max - z[targets[r] as usize];
        }
    }
}

/// dlogits = (softmax − one-hot)·scale·weight, overwritten; 0 if the row's weight is 0. Without `weights`, every weight
/// is 1.
pub fn cross_entropy_backward<F: Real>(
    logits: &[F],
    targets: &[u32],
    weights: Option<&[F]>,
    scale: F,
    dlogits: &mut [F],
) {
    let v = logits.len() / targets.len().max(1);
    dlogits.fill(zero());
    for (r, &target) in targets.iter().enumerate() {
        let weight = weight_of(weights, r);
        if weight == zero() {
            continue;
        }
        let z = &logits[r * v..(r + 1) * v];
        let (max, sum) = max_and_sum_of_exps(z);
        for i in 0..v {
            let hot = if i == target as usize { F::from(1.0) } else { zero() };
            dlogits[r * v + i] = ((z[i] - max).exp() / sum - hot) * scale * weight;
        }
    }
}

fn weight_of<F: Real>(weights: Option<&[F]>, row: usize) -> F {
    weights.map_or(F::from(1.0), |weights| weights[row])
}

/// The greatest element, and the sum of e^(z − greatest).
fn max_and_sum_of_exps<F: Real>(z: &[F]) -> (F, F) {
    let max = z.iter().fold(z[0], |a, &b| if b > a { b } else { a });
    (max, z.iter().map(|&z| (z - max).exp()).sum())
}

/// y = x + branch·keep(row, column).
pub fn add_dropped<F: Real>(x: &[F], branch: &[F], keep: &dyn Fn(usize, usize) -> F, cols: usize, y: &mut [F]) {
    for (i, y) in y.iter_mut().enumerate() {
        *y = x[i] + branch[i] * keep(i / cols, i % cols);
    }
}

/// y ← y + α·x, element by element.
pub fn add_scaled<F: Real>(alpha: F, x: &[F], y: &mut [F]) {
    for (&x, y) in x.iter().zip(y) {
        *y += alpha * x;
    }
}

/// Sums the losses times their weights. Without `weights`, every weight is 1.
pub fn sum_losses<F: Real>(losses: &[F], weights: Option<&[F]>) -> F {
    let terms = losses.iter().enumerate().map(|(r, &loss)| (weight_of(weights, r), loss));
    terms.filter(|&(weight, _)| weight != zero()).map(|(weight, loss)| weight * loss).sum()
}

/// The sum of squares; see [`crate::sum_of_squares`].
pub fn sum_of_squares<F: Real>(x: &[F]) -> F {
    x.iter().fold(F::from(0.0), |sum, &x| sum + x * x)
}

/// One AdamW step; see [`crate::adamw`].
pub fn adamw<F: Real>(hyper: &crate::AdamW, weight: &mut [F], grad: &[F], m: &mut [F], v: &mut [F]) {
    let [lr, b1, b2, eps, wd, c1, c2, scale] = [
        hyper.lr,
        hyper.beta1,
        hyper.beta2,
        hyper.eps,
        hyper.weight_decay,
        hyper.bias_correction1,
        hyper.bias_correction2,
        hyper.grad_scale,
    ]
    .map(F::from);
    let one = F::from(1.0);
    for i in 0..weight.len() {
        weight[i] = weight[i] * (one - lr * wd);
        let g = grad[i] * scale;
        m[i] = b1 * m[i] + (one - b1) * g;
        v[i] = b2 * v[i] + (one - b2) * g * g;
        weight[i] = weight[i] - lr / c1 * m[i] / ((v[i] / c2).sqrt() + eps);
    }
}
