//! Layer normalisation: y = (x − μ)·r·w + b for each row, μ its mean, r = 1 / √(σ² + ε), σ² the biased variance. An empty
//! bias is absent: b = 0.
//!
//! Backward, with x̂ = (x − μ)·r and g = dy·w: dx = r·(g − mean(g) − x̂·mean(g·x̂)), dw = Σ dy·x̂, db = Σ dy over rows.
//! J. Ba et al., "Layer normalization", 2016. Sums over a row have 16 lanes.

use crate::disjoint_mut::DisjointMut;
use crate::isa::multiversion;
use crate::math::{sum_of, sum_of2};
use crate::pool::Pool;
use crate::sizes::has_dims;
use crate::split::{COLUMNS, for_rows};

/// Computes y [R, cols], mean `[R]` and rstd `[R]` from x [R, cols]; all three are overwritten. `eps` is ε.
///
/// # Panics
/// If the sizes do not agree.
pub fn layer_norm_forward(
    pool: &Pool,
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    eps: f32,
    y: &mut [f32],
    mean: &mut [f32],
    rstd: &mut [f32],
) {
    let cols = check(x, weight, bias, mean.len());
    assert!(y.len() == x.len() && rstd.len() == mean.len(), "layer_norm_forward: sizes");
    let (mean, rstd) = (DisjointMut::new(mean), DisjointMut::new(rstd));
    for_rows(pool, y, cols, |row, y| {
        let x = &x[row * cols..row * cols + y.len()];
        let end = row + y.len() / cols;
        // SAFETY: blocks of rows do not overlap.
        let (mean, rstd) = unsafe { (mean.part(row, end), rstd.part(row, end)) };
        statistics(pool.isa(), x, cols, eps, mean, rstd);
        normalise(pool.isa(), x, weight, bias, mean, rstd, y);
    });
}

/// Recomputes y from x and the mean and rstd of [`layer_norm_forward`], to the same bits; y is overwritten.
///
/// # Panics
/// If the sizes do not agree.
pub fn layer_norm_again(
    pool: &Pool,
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    mean: &[f32],
    rstd: &[f32],
    y: &mut [f32],
) {
    let cols = check(x, weight, bias, mean.len());
    assert!(y.len() == x.len() && rstd.len() == mean.len(), "layer_norm_again: sizes");
    for_rows(pool, y, cols, |row, y| {
        let end = row + y.len() / cols;
        let x = &x[row * cols..end * cols];
        normalise(pool.isa(), x, weight, bias, &mean[row..end], &rstd[row..end], y);
    });
}

fn check(x: &[f32], weight: &[f32], bias: &[f32], rows: usize) -> usize {
    let cols = weight.len();
    assert!(
        cols > 0 && (bias.is_empty() || bias.len() == cols) && has_dims(x.len(), [rows, cols]),
        "layer_norm: x of {} elements, {rows} rows, weight [{cols}], bias [{}]",
        x.len(),
        bias.len()
    );
    cols
}

multiversion! {
    fn statistics(x: &[f32], cols: usize, eps: f32, mean: &mut [f32], rstd: &mut [f32]) = statistics_body;
}

#[inline(always)]
fn statistics_body(x: &[f32], cols: usize, eps: f32, mean: &mut [f32], rstd: &mut [f32]) {
    for ((x, mean), rstd) in x.chunks_exact(cols).zip(mean).zip(rstd) {
        *mean = sum_of(x, |x| x) / cols as f32;
        // A second pass over the row: the difference of squares would cancel if the mean is large.
        let variance = sum_of(x, |x| (x - *mean) * (x - *mean)) / cols as f32;
        *rstd = 1.0 / (variance + eps).sqrt();
    }
}

multiversion! {
    fn normalise(x: &[f32], weight: &[f32], bias: &[f32], mean: &[f32], rstd: &[f32], y: &mut [f32]) = normalise_body;
}

#[inline(always)]
fn normalise_body(x: &[f32], weight: &[f32], bias: &[f32], mean: &[f32], rstd: &[f32], y: &mut [f32]) {
    let cols = weight.len();
    for (((x, y), &mean), &rstd) in x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)).zip(mean).zip(rstd) {
        if bias.is_empty() {
            for ((y, &x), &w) in y.iter_mut().zip(x).zip(weight) {
                *y = (x - mean) * rstd * w;
            }
            continue;
        }
        for (((y, &x), &w), &b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
            *y = (x - mean) * rstd * w + b;
        }
    }
}

/// Adds the gradients to dx [R, cols], dweight `[cols]` and dbias `[cols]`.
///
/// `grad` is (dweight, dbias), or `None` if they are frozen; an empty dbias is that of a layer without bias.
///
/// # Panics
/// If the sizes do not agree.
pub fn layer_norm_backward_add(
    pool: &Pool,
    dy: &[f32],
    x: &[f32],
    weight: &[f32],
    mean: &[f32],
    rstd: &[f32],
    dx: &mut [f32],
    grad: Option<(&mut [f32], &mut [f32])>,
) {
    let cols = check(x, weight, weight, mean.len());
    assert!(dy.len() == x.len() && dx.len() == x.len() && rstd.len() == mean.len(), "layer_norm_backward_add: sizes");
    for_rows(pool, dx, cols, |row, dx| {
        let end = row + dx.len() / cols;
        let (from, to) = (row * cols, end * cols);
        backward_rows(pool.isa(), &dy[from..to], &x[from..to], weight, &mean[row..end], &rstd[row..end], dx);
    });
    let Some((dweight, dbias)) = grad else { return };
    let has_bias = !dbias.is_empty();
    assert!(
        dweight.len() == cols && (!has_bias || dbias.len() == cols),
        "layer_norm_backward_add: sizes of the gradient"
    );
    let (dweight, dbias) = (DisjointMut::new(dweight), DisjointMut::new(dbias));
    pool.run(cols.div_ceil(COLUMNS), |task| {
        let (from, to) = (task * COLUMNS, ((task + 1) * COLUMNS).min(cols));
        // SAFETY: tasks have different columns.
        let (dweight, dbias) =
            unsafe { (dweight.part(from, to), if has_bias { dbias.part(from, to) } else { dbias.part(0, 0) }) };
        backward_columns(pool.isa(), dy, x, mean, rstd, cols, from, dweight, dbias);
    });
}

multiversion! {
    fn backward_rows(dy: &[f32], x: &[f32], weight: &[f32], mean: &[f32], rstd: &[f32], dx: &mut [f32])
        = backward_rows_body;
}

#[inline(always)]
fn backward_rows_body(dy: &[f32], x: &[f32], weight: &[f32], mean: &[f32], rstd: &[f32], dx: &mut [f32]) {
    let cols = weight.len();
    let rows = dy.chunks_exact(cols).zip(x.chunks_exact(cols)).zip(dx.chunks_exact_mut(cols));
    for (((dy, x), dx), (&mean, &rstd)) in rows.zip(mean.iter().zip(rstd)) {
        let mean_g = sum_of2(dy, weight, |dy, w| dy * w) / cols as f32;
        // Σ g·x̂ reads three arrays. dx is accumulated and cannot hold x̂, which is therefore computed twice.
        let mut lanes = [0.0; 16];
        for ((dy, x), w) in dy.chunks(16).zip(x.chunks(16)).zip(weight.chunks(16)) {
            for (((lane, &dy), &x), &w) in lanes.iter_mut().zip(dy).zip(x).zip(w) {
                *lane += dy * w * ((x - mean) * rstd);
            }
        }
        let mean_gx = crate::math::reduce(lanes, |a, b| a + b) / cols as f32;
        for (((dx, &dy), &x), &w) in dx.iter_mut().zip(dy).zip(x).zip(weight) {
            *dx += rstd * (dy * w - mean_g - (x - mean) * rstd * mean_gx);
        }
    }
}

multiversion! {
    fn backward_columns(
        dy: &[f32], x: &[f32], mean: &[f32], rstd: &[f32], cols: usize, from: usize,
        dweight: &mut [f32], dbias: &mut [f32],
    ) = backward_columns_body;
}

#[inline(always)]
fn backward_columns_body(
    dy: &[f32],
    x: &[f32],
    mean: &[f32],
    rstd: &[f32],
    cols: usize,
    from: usize,
    dweight: &mut [f32],
    dbias: &mut [f32],
) {
    let width = dweight.len();
    let (mut dw, mut db) = ([0.0; COLUMNS], [0.0; COLUMNS]);
    for (row, (&mean, &rstd)) in mean.iter().zip(rstd).enumerate() {
        let at = row * cols + from;
        let (dy, x) = (&dy[at..at + width], &x[at..at + width]);
        for (((dw, db), &dy), &x) in dw.iter_mut().zip(&mut db).zip(dy).zip(x) {
            *dw += dy * ((x - mean) * rstd);
            *db += dy;
        }
    }
    dweight.iter_mut().zip(dw).for_each(|(to, s)| *to += s);
    dbias.iter_mut().zip(db).for_each(|(to, s)| *to += s);
}
