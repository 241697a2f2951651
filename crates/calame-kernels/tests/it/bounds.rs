//! Bounds on the error of f32 kernels, element by element, from first-order error analysis in f64.
//!
//! Every bound is a sum of absolute terms, each times the number of roundings that may affect it. Nothing is fitted: a
//! kernel that drops or doubles a block of terms has an error of the size of these terms, a hundred times the bound or
//! more.

use calame_kernels::Precision;

use crate::support::EPSILON;

/// Accounts for the terms of second order, which the analysis omits.
const SECOND_ORDER: f64 = 1.01;
/// The same if operands are rounded to bf16, where weights have an error of some per cent.
const SECOND_ORDER_BF16: f64 = 1.1;

/// The relative error of a product from rounding both operands: half a unit in bf16's last place each.
fn operand_rounding(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 0.0,
        Precision::Bf16 => 2.0 / 512.0,
    }
}

/// Bounds of attention, with the shapes of the arrays that they bound.
pub struct AttentionBounds {
    pub y: Vec<f64>,
    pub dqkv: Vec<f64>,
}

/// Computes the bounds of attention; sizes and inputs are those of the reference.
pub fn attention(
    (b, t, nh, hs): (usize, usize, usize, usize),
    scale: f64,
    dy: &[f64],
    qkv: &[f64],
    starts: Option<&[u32]>,
    factor: &dyn Fn(usize, usize, usize) -> f64,
    precision: Precision,
) -> AttentionBounds {
    let operands = operand_rounding(precision);
    let second_order = if precision == Precision::F32 { SECOND_ORDER } else { SECOND_ORDER_BF16 };
    let c = nh * hs;
    let mut bounds = AttentionBounds { y: vec![0.0; b * t * c], dqkv: vec![0.0; qkv.len()] };
    let rows = (0..b).flat_map(|s| (0..nh).flat_map(move |h| (0..t).map(move |q| (s, h, q))));
    for (s, h, q) in rows {
        let at = |position: usize, part: usize| (s * t + position) * 3 * c + part * c + h * hs;
        let y_at = (s * t + q) * c + h * hs;
        let (query, dy) = (&qkv[at(q, 0)..][..hs], &dy[y_at..][..hs]);
        let seen = starts.map_or(0, |starts| starts[s * t + q] as usize)..q + 1;
        let keys: Vec<&[f64]> = seen.clone().map(|k| &qkv[at(k, 1)..][..hs]).collect();
        let values: Vec<&[f64]> = seen.clone().map(|k| &qkv[at(k, 2)..][..hs]).collect();
        let keep: Vec<f64> = seen.clone().map(|k| factor(s, h * t + q, k)).collect();
        let row = QueryRow::new(query, dy, &keys, &values, &keep, scale, t, operands);
        for (j, k) in seen.enumerate() {
            let kept = row.p[j] * keep[j];
            for i in 0..hs {
                // A sum of up to t products, which is started or continued at each block of queries.
                let sum = (t + 4) as f64 * EPSILON + operands;
                bounds.y[y_at + i] += second_order * kept * values[j][i].abs() * (row.p_error[j] + sum);
                bounds.dqkv[at(k, 2) + i] += second_order * kept * dy[i].abs() * (row.p_error[j] + sum);
                let dscore = second_order * (row.dscore_error[j] + sum * row.dscore[j].abs());
                bounds.dqkv[at(q, 0) + i] += dscore * keys[j][i].abs();
                bounds.dqkv[at(k, 1) + i] += dscore * query[i].abs();
            }
        }
    }
    bounds
}

/// The weights of a query, the gradients of its scores, and bounds on their errors.
struct QueryRow {
    p: Vec<f64>,
    /// The relative error of each weight.
    p_error: Vec<f64>,
    dscore: Vec<f64>,
    dscore_error: Vec<f64>,
}

impl QueryRow {
    fn new(
        query: &[f64],
        dy: &[f64],
        keys: &[&[f64]],
        values: &[&[f64]],
        keep: &[f64],
        scale: f64,
        t: usize,
        operands: f64,
    ) -> QueryRow {
        let hs = query.len();
        let z: Vec<f64> = keys.iter().map(|k| scale * dot(query, k)).collect();
        let largest = z.iter().fold(0.0f64, |a, z| a.max(z.abs()));
        let sum: f64 = z.iter().map(|z| z.exp()).sum();
        let p: Vec<f64> = z.iter().map(|z| z.exp() / sum).collect();
        // A score is a sum of hs products. Its error affects its own weight directly, and all weights through the row's
        // sum.
        let z_error: Vec<f64> =
            keys.iter().map(|k| ((hs + 1) as f64 * EPSILON + operands) * scale * dot_abs(query, k)).collect();
        let lse_error = dot(&p, &z_error);
        // The sum of exponentials in 16 lanes; two exponentials of 4 roundings each; scaled scores, the maximum, the
        // log-sum-exp (at most `largest` + ln t) and their differences, with about 16 roundings together.
        let roundings = (t as f64 / 16.0 + 24.0) + 16.0 * largest + 4.0 * (t as f64).ln();
        let p_error: Vec<f64> = z_error.iter().map(|e| e + lse_error + roundings * EPSILON).collect();
        // D = Σ dy·y = Σ P̃·(dy·v) is computed from y: the errors of its weights and the roundings of both sums.
        let kept: Vec<f64> = p.iter().zip(keep).map(|(p, f)| p * f).collect();
        let products: Vec<f64> = values.iter().map(|v| dot(dy, v)).collect();
        let sizes: Vec<f64> = values.iter().map(|v| dot_abs(dy, v)).collect();
        let d = dot(&kept, &products);
        let both = (t + hs + 8) as f64 * EPSILON + operands;
        let d_error: f64 = (0..p.len()).map(|k| kept[k] * sizes[k] * (p_error[k] + both)).sum();
        let dscore: Vec<f64> = (0..p.len()).map(|k| scale * p[k] * (keep[k] * products[k] - d)).collect();
        let dscore_error = (0..p.len())
            .map(|k| {
                let inner =
                    ((hs + 4) as f64 * EPSILON + operands) * keep[k] * sizes[k] + d_error + 4.0 * EPSILON * d.abs();
                dscore[k].abs() * p_error[k] + scale * p[k] * inner
            })
            .collect();
        QueryRow { p, p_error, dscore, dscore_error }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn dot_abs(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a * b).abs()).sum()
}

/// Bounds of layer normalisation, with the shapes of the arrays that they bound.
pub struct LayerNormBounds {
    pub y: Vec<f64>,
    pub dx: Vec<f64>,
    pub dweight: Vec<f64>,
    pub dbias: Vec<f64>,
}

/// Computes the bounds for x and dy [rows, cols]; dx is added to `dx0`, dweight and dbias to elements of at most
/// `grad0`.
///
/// With a single column, each x is its own mean to the bit, and x̂ and g − mean(g) are exactly 0: y is the bias, dx and
/// dweight are unchanged, and their bounds are 0.
///
/// An empty bias is absent, and its gradient's bound is empty.
pub fn layer_norm(
    x: &[f64],
    weight: &[f64],
    bias: &[f64],
    eps: f32,
    dy: &[f64],
    dx0: &[f64],
    grad0: f64,
) -> LayerNormBounds {
    let cols = weight.len();
    let rows = x.len() / cols;
    // The error of a sum over the rows, which starts at 0 and is added to the previous value.
    let sum_of_rows = (rows + 2) as f64 * EPSILON;
    let mut bounds = LayerNormBounds {
        y: Vec::new(),
        dx: Vec::new(),
        dweight: vec![sum_of_rows * grad0; cols],
        dbias: vec![sum_of_rows * grad0; bias.len()],
    };
    for ((x, dy), dx0) in x.chunks(cols).zip(dy.chunks(cols)).zip(dx0.chunks(cols)) {
        let row = NormalRow::new(x, dy, weight, eps);
        for i in 0..cols {
            let (normal, error) = (row.normal[i].abs(), row.normal_error[i]);
            let product = normal * weight[i].abs();
            bounds.y.push(
                SECOND_ORDER
                    * (weight[i].abs() * error + EPSILON * (2.0 * product + bias.get(i).map_or(0.0, |b| b.abs()))),
            );
            bounds.dx.push(SECOND_ORDER * (row.dx_error[i] + EPSILON * (dx0[i].abs() + row.dx[i].abs())));
            bounds.dweight[i] += SECOND_ORDER * dy[i].abs() * (error + sum_of_rows * normal);
            if let Some(dbias) = bounds.dbias.get_mut(i) {
                *dbias += SECOND_ORDER * sum_of_rows * dy[i].abs();
            }
        }
    }
    if cols == 1 {
        bounds.y.fill(0.0);
        bounds.dx.fill(0.0);
        bounds.dweight.fill(0.0);
    }
    bounds
}

/// x̂ and dx of a row, and bounds on their errors.
struct NormalRow {
    normal: Vec<f64>,
    normal_error: Vec<f64>,
    dx: Vec<f64>,
    dx_error: Vec<f64>,
}

impl NormalRow {
    fn new(x: &[f64], dy: &[f64], weight: &[f64], eps: f32) -> NormalRow {
        let n = x.len() as f64;
        // A mean over the row: a sixteenth of it in each lane, four steps of reduction, and the division.
        let of_mean = (n / 16.0 + 6.0) * EPSILON;
        let mean_of = |f: &dyn Fn(usize) -> f64| (0..x.len()).map(f).sum::<f64>() / n;
        let mean = mean_of(&|i| x[i]);
        let rstd = 1.0 / (mean_of(&|i| (x[i] - mean).powi(2)) + f64::from(eps)).sqrt();
        let mean_error = of_mean * mean_of(&|i| x[i].abs());
        // The relative error is half that of the variance, whose terms have three more roundings and which an error of
        // the mean increases by its square; then come the sum with ε, the square root and the quotient.
        let rstd_error = 0.5 * (of_mean + 3.0 * EPSILON) + 0.5 * (mean_error * rstd).powi(2) + 3.0 * EPSILON;
        let normal: Vec<f64> = x.iter().map(|x| (x - mean) * rstd).collect();
        let normal_error: Vec<f64> =
            normal.iter().map(|v| mean_error * rstd + v.abs() * (rstd_error + 2.0 * EPSILON)).collect();
        let g: Vec<f64> = dy.iter().zip(weight).map(|(dy, w)| dy * w).collect();
        let (mean_g, mean_gx) = (mean_of(&|i| g[i]), mean_of(&|i| g[i] * normal[i]));
        let mean_g_error = (of_mean + EPSILON) * mean_of(&|i| g[i].abs());
        let mean_gx_error =
            mean_of(&|i| g[i].abs() * normal_error[i] + (of_mean + 2.0 * EPSILON) * (g[i] * normal[i]).abs());
        let inner = |i: usize| g[i] - mean_g - normal[i] * mean_gx;
        let inner_error = |i: usize| {
            let sizes = g[i].abs() + mean_g.abs() + (normal[i] * mean_gx).abs();
            let x_part = normal[i].abs() * mean_gx_error + mean_gx.abs() * normal_error[i];
            mean_g_error + x_part + 3.0 * EPSILON * sizes
        };
        let dx = (0..x.len()).map(|i| rstd * inner(i)).collect();
        let dx_error =
            (0..x.len()).map(|i| rstd * (inner_error(i) + inner(i).abs() * (rstd_error + EPSILON))).collect();
        NormalRow { normal, normal_error, dx, dx_error }
    }
}
