//! Activations of the MLP.

use super::real::{Real, count, zero};
use crate::activation::Activation;

/// y = activation(x), element by element; y is overwritten.
pub fn activation_forward<F: Real>(activation: Activation, x: &[F], y: &mut [F]) {
    let [one, half] = [1.0, 0.5].map(F::from);
    for (&x, y) in x.iter().zip(y) {
        *y = match activation {
            Activation::GeluTanh => half * x * (one + tanh_argument(x).tanh()),
            Activation::Gelu => half * x * (one + erf(x / F::from(2.0).sqrt())),
            Activation::Relu => positive(x, x),
        };
    }
}

/// dx = dy·activation′(x), overwritten; relu′(0) = 0.
pub fn activation_backward<F: Real>(activation: Activation, dy: &[F], x: &[F], dx: &mut [F]) {
    let [one, half, two] = [1.0, 0.5, 2.0].map(F::from);
    for ((&dy, &x), dx) in dy.iter().zip(x).zip(dx) {
        *dx = dy
            * match activation {
                Activation::GeluTanh => {
                    let tanh = tanh_argument(x).tanh();
                    let du = (two / pi()).sqrt() * (one + F::from(3.0 * 0.044_715) * x * x);
                    half * (one + tanh) + half * x * (one - tanh * tanh) * du
                }
                Activation::Gelu => {
                    let density = (-(x * x) / two).exp() / (two * pi()).sqrt();
                    half * (one + erf(x / two.sqrt())) + x * density
                }
                Activation::Relu => positive(x, one),
            };
    }
}

/// `value` where x > 0, else 0.
fn positive<F: Real>(x: F, value: F) -> F {
    if x > zero() { value } else { zero() }
}

/// The argument of tanh in GELU's tanh form, √(2/π)·(x + 0.044715·x³).
fn tanh_argument<F: Real>(x: F) -> F {
    (F::from(2.0) / pi()).sqrt() * (x + F::from(0.044_715) * x * x * x)
}

/// π to the precision of F: the π of f32 plus the difference.
fn pi<F: Real>() -> F {
    F::from(std::f32::consts::PI) + F::from(-8.742_278e-8)
}

/// erf z = 2/√π·e^(−z²)·Σ 2ⁿ·z^(2n+1)/(1·3·…·(2n+1)), a sum of terms of one sign (M. Abramowitz and I. Stegun, 7.1.6).
///
/// From |z| = 6 on it is ±1 in f64.
fn erf<F: Real>(z: F) -> F {
    let squared = z * z;
    if squared > F::from(36.0) {
        return F::from(if z > zero() { 1.0 } else { -1.0 });
    }
    let (mut term, mut sum) = (z, z);
    for n in 1..200 {
        term = term * F::from(2.0) * squared / count(2 * n + 1);
        sum += term;
    }
    F::from(2.0) / pi::<F>().sqrt() * (-squared).exp() * sum
}
