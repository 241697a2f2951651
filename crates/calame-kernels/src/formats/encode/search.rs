//! The searches for the scale of a group, and the roundings that all encoders share.
//!
//! A group is stored as integers q and a scale s, x ≈ s·q. For given integers, the weighted squared error Σw(x − s·q)²
//! is smallest at s = Σwxq / Σwq², where it is Σwx² − (Σwxq)² / Σwq²: of two choices of integers, the one with the larger
//! (Σwxq)² / Σwq² is better. The error is a jagged function of s because the integers depend on s. The searches
//! therefore round under a few scales near the one that maps the largest element to the largest integer, and keep the
//! integers that fit best:
//!
//! - [`symmetric`] (Q6_K) and [`uneven`] (IQ4_NL, IQ4_XS) try a fixed list of scales;
//! - [`refined`] (Q3_K) changes one integer at a time as long as this reduces the error;
//! - [`affine`] (Q2_K, Q4_K, Q5_K) tries a list of scales, and fits a scale and a minimum to the integers of each.
//!
//! Sums are in f32, in the order of elements. Products keep the reference's order of factors, which decides the last
//! bit.

use crate::formats::small::IQ4_NL_VALUES;

/// The values of IQ4_NL in f32.
const VALUES: [f32; 16] = {
    let mut values = [0.0; 16];
    let mut i = 0;
    while i < 16 {
        values[i] = IQ4_NL_VALUES[i] as f32;
        i += 1;
    }
    values
};

/// Largest magnitude of a group that is stored as zeros (`GROUP_MAX_EPS`).
pub const NEGLIGIBLE: f32 = 1e-15;

/// The nearest integer, ties to even, of a number of magnitude below 2²².
///
/// The sum with 1.5·2²³ has the integer in its low bits. The result for other numbers is what these bits hold, as in
/// the reference: −2²² for either infinity and 0 for NaN. They occur in blocks whose scale or its inverse overflows.
pub fn nearest_int(x: f32) -> i32 {
    ((x + 12_582_912.0).to_bits() & 0x007f_ffff) as i32 - 0x0040_0000
}

/// The integer part of a number; `i32::MIN` if it is no i32.
///
/// C leaves that case undefined; this is the result of the conversion on x86. It occurs in blocks whose scale or its
/// inverse overflows.
pub fn truncate(x: f32) -> i32 {
    if x.abs() < 2_147_483_648.0 { x as i32 } else { i32::MIN }
}

/// 1/x, or 0 for 0.
pub fn inverse(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

/// The element of the largest magnitude, the first of several; 0 if there is none but zeros.
pub fn largest(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |largest: f32, &x| if x.abs() > largest.abs() { x } else { largest })
}

/// The largest element, or 0 if none is positive.
///
/// `f32::max` does not specify the sign of a zero, which f16 stores.
pub fn largest_positive(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |max, &x| if x > max { x } else { max })
}

/// The smallest and the largest element, the first of several equal ones.
pub fn range(x: &[f32]) -> (f32, f32) {
    x.iter().fold((x[0], x[0]), |(min, max), &x| (if x < min { x } else { min }, if x > max { x } else { max }))
}

/// How well integers q fit elements x with weights w = x²: `xq` is Σwxq, `qq` is Σwq².
#[derive(Clone, Copy)]
struct Fit {
    xq: f32,
    qq: f32,
}

impl Fit {
    fn of<const N: usize>(x: &[f32; N], q: &[i32; N]) -> Fit {
        x.iter().zip(q).fold(Fit { xq: 0.0, qq: 0.0 }, |fit, (&x, &q)| fit.with(x, q))
    }

    fn with(self, x: f32, q: i32) -> Fit {
        let (w, q) = (x * x, q as f32);
        Fit { xq: self.xq + w * x * q, qq: self.qq + w * q * q }
    }

    fn without(self, x: f32, q: i32) -> Fit {
        let (w, q) = (x * x, q as f32);
        Fit { xq: self.xq - w * x * q, qq: self.qq - w * q * q }
    }

    /// Whether this is better than a fit with `best` = (Σwxq)² / Σwq².
    fn is_better_than(self, best: f32) -> bool {
        self.qq > 0.0 && self.xq * self.xq > best * self.qq
    }
}

/// Scale and codes of a group, x ≈ scale·(code − n) with codes below 2n.
///
/// Rounds under 19 scales: those that map the largest element to −(n + k/10), k from −9 to 9.
pub fn symmetric<const N: usize>(x: &[f32; N], n: i32) -> (f32, [u8; N]) {
    let largest = largest(x);
    if largest.abs() < NEGLIGIBLE {
        return (0.0, [0; N]);
    }
    let rounded = |inverse: f32| x.map(|x| nearest_int(inverse * x).clamp(-n, n - 1));
    let mut q = rounded(-n as f32 / largest);
    let fit = Fit::of(x, &q);
    let mut scale = if fit.qq == 0.0 { 0.0 } else { fit.xq / fit.qq };
    let mut best = scale * fit.xq;
    for k in (-9..=9).filter(|&k| k != 0) {
        let candidate = rounded(-(n as f32 + 0.1 * k as f32) / largest);
        let fit = Fit::of(x, &candidate);
        if fit.is_better_than(best) {
            scale = fit.xq / fit.qq;
            best = scale * fit.xq;
            q = candidate;
        }
    }
    (scale, q.map(|q| (q + n) as u8))
}

/// Scale and codes of a group, x ≈ scale·(code − n) with codes below 2n.
///
/// Rounds under the scale that maps the largest element to −n, then visits all elements up to five times. The best
/// scale for the other elements determines an element's new integer, which is kept if it reduces the error.
pub fn refined<const N: usize>(x: &[f32; N], n: i32) -> (f32, [u8; N]) {
    let largest = largest(x);
    if largest.abs() < NEGLIGIBLE {
        return (0.0, [0; N]);
    }
    let inverse = -n as f32 / largest;
    let mut q = x.map(|x| nearest_int(inverse * x).clamp(-n, n - 1));
    let mut fit = Fit::of(x, &q);
    for _ in 0..5 {
        let mut has_changed = false;
        for (&x, q) in x.iter().zip(&mut q) {
            let others = fit.without(x, *q);
            if others.xq > 0.0 {
                let new = nearest_int(x * others.qq / others.xq).clamp(-n, n - 1);
                let with = others.with(x, new);
                if new != *q && with.qq > 0.0 && with.xq * with.xq * fit.qq > fit.xq * fit.xq * with.qq {
                    (*q, fit, has_changed) = (new, with, true);
                }
            }
        }
        if !has_changed {
            break;
        }
    }
    let scale = if fit.qq > 0.0 { fit.xq / fit.qq } else { 0.0 };
    (scale, q.map(|q| (q + n) as u8))
}

/// What [`affine`] tries and minimises.
pub struct Affine {
    /// The largest code; the smallest is 0.
    pub n: i32,
    /// The scales map the range of the elements to n + first, n + first + 0.1, and so on.
    pub first: f32,
    /// Number of scales after the first.
    pub n_steps: i32,
    /// Whether the weighted absolute error decides between two scales, instead of the squared one.
    pub is_absolute: bool,
}

/// Integers, scale and offset of a group, x ≈ scale·q + min.
struct AffineFit<const N: usize> {
    q: [i32; N],
    scale: f32,
    min: f32,
}

impl<const N: usize> AffineFit<N> {
    fn error(&self, x: &[f32; N], w: &[f32; N], is_absolute: bool) -> f32 {
        let mut sum = 0.0;
        for ((x, w), &q) in x.iter().zip(w).zip(&self.q) {
            let error = self.scale * q as f32 + self.min - x;
            sum += w * if is_absolute { error.abs() } else { error * error };
        }
        sum
    }

    /// Scale and offset that solve the normal equations of the weighted squared error for the integers q; a positive
    /// offset is replaced by 0. `None` if the integers do not determine both.
    ///
    /// `sum_w` and `sum_x` are Σw and Σwx.
    fn solve(q: [i32; N], x: &[f32; N], w: &[f32; N], sum_w: f32, sum_x: f32) -> Option<AffineFit<N>> {
        let (mut sum_q, mut sum_qq, mut sum_xq) = (0.0, 0.0, 0.0);
        for ((x, w), &q) in x.iter().zip(w).zip(&q) {
            let q = q as f32;
            sum_q += w * q;
            sum_qq += w * q * q;
            sum_xq += w * q * x;
        }
        let determinant = sum_w * sum_qq - sum_q * sum_q;
        if determinant > 0.0 {
            let scale = (sum_w * sum_xq - sum_x * sum_q) / determinant;
            let min = (sum_qq * sum_x - sum_q * sum_xq) / determinant;
            let (scale, min) = if min > 0.0 { (sum_xq / sum_qq, 0.0) } else { (scale, min) };
            Some(AffineFit { q, scale, min })
        } else {
            None
        }
    }
}

/// Scale, minimum and codes of a group with weights w, x ≈ scale·code − minimum; the minimum is not negative.
pub fn affine<const N: usize>(x: &[f32; N], w: &[f32; N], search: &Affine) -> (f32, f32, [u8; N]) {
    let (min, max) = range(x);
    let min = if min > 0.0 { 0.0 } else { min };
    if max == min {
        return (0.0, -min, [0; N]);
    }
    // The sums begin with the first term, not with 0, so that the sign of a zero is the reference's.
    let (mut sum_w, mut sum_x) = (w[0], w[0] * x[0]);
    for (x, w) in x.iter().zip(w).skip(1) {
        sum_w += w;
        sum_x += w * x;
    }
    let rounded = |inverse: f32, min: f32| x.map(|x| nearest_int(inverse * (x - min)).clamp(0, search.n));

    let inverse = search.n as f32 / (max - min);
    let mut best = AffineFit { q: rounded(inverse, min), scale: 1.0 / inverse, min };
    let mut best_error = best.error(x, w, search.is_absolute);
    for step in 0..=search.n_steps {
        // Both the scale and the integers are relative to the best offset so far.
        let inverse = (search.first + 0.1 * step as f32 + search.n as f32) / (max - best.min);
        if let Some(fit) = AffineFit::solve(rounded(inverse, best.min), x, w, sum_w, sum_x) {
            let error = fit.error(x, w, search.is_absolute);
            if error < best_error {
                (best, best_error) = (fit, error);
            }
        }
    }
    (best.scale, -best.min, best.q.map(|q| q as u8))
}

/// The index of the value of IQ4_NL that is closest to x, the larger one of two.
pub fn nearest_value(x: f32) -> u8 {
    let n_above: usize = VALUES.iter().map(|&value| usize::from(x < value)).sum();
    let above = (VALUES.len() - n_above).clamp(1, VALUES.len() - 1);
    (if x - VALUES[above - 1] < VALUES[above] - x { above - 1 } else { above }) as u8
}

/// The scale of a group, x ≈ scale·values\[code\], with the values of IQ4_NL.
///
/// Rounds under 16 scales: those that map the largest element to 127, and to −127 + k, k from −7 to 7.
pub fn uneven(x: &[f32; 32]) -> f32 {
    let largest = largest(x);
    if largest.abs() < NEGLIGIBLE {
        return 0.0;
    }
    let fit = |inverse: f32| {
        x.iter().fold(Fit { xq: 0.0, qq: 0.0 }, |fit, &x| {
            let (w, q) = (x * x, VALUES[usize::from(nearest_value(inverse * x))]);
            Fit { xq: fit.xq + w * q * x, qq: fit.qq + w * q * q }
        })
    };
    let first = fit(1.0 / (-largest / VALUES[0]));
    let mut scale = if first.qq > 0.0 { first.xq / first.qq } else { 0.0 };
    let mut best = scale * first.xq;
    for k in -7..=7 {
        let fit = fit((k as f32 + VALUES[0]) / largest);
        if fit.is_better_than(best) {
            scale = fit.xq / fit.qq;
            best = scale * fit.xq;
        }
    }
    scale
}
