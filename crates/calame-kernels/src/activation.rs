//! The activations of the MLP, forward and backward, each in one pass over memory.
//!
//! The function is selected once for a row of a block, outside the loops, so that each loop is that of one function.

use std::fmt;
use std::str::FromStr;

use crate::isa::{Isa, multiversion};
use crate::math::{exp, sigmoid};

/// The function between the two linear layers of an MLP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// GELU by its tanh form, GPT-2's: x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))).
    #[default]
    GeluTanh,
    /// GELU by its definition, x·Φ(x) with Φ(x) = (1 + erf(x/√2))/2.
    Gelu,
    /// The positive part of x, max(x, 0).
    Relu,
}

impl Activation {
    /// Every activation, GPT-2's first.
    pub const ALL: [Activation; 3] = [Activation::GeluTanh, Activation::Gelu, Activation::Relu];

    /// The name that the program prints and parses.
    pub fn name(self) -> &'static str {
        match self {
            Activation::GeluTanh => "gelu-tanh",
            Activation::Gelu => "gelu",
            Activation::Relu => "relu",
        }
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Activation {
    type Err = String;

    /// Parses a name of calame's or of transformers', which has several for the same function.
    fn from_str(s: &str) -> Result<Activation, String> {
        match s {
            "gelu-tanh" | "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_python_tanh" | "gelu_accurate" => {
                Ok(Activation::GeluTanh)
            }
            "gelu" | "gelu_python" => Ok(Activation::Gelu),
            "relu" => Ok(Activation::Relu),
            _ => Err(format!("unknown activation '{s}': expected gelu-tanh (also called gelu_new), gelu or relu")),
        }
    }
}

/// y = activation(x); y is overwritten.
pub(crate) fn activate(isa: Isa, activation: Activation, x: &[f32], y: &mut [f32]) {
    match activation {
        Activation::GeluTanh => gelu_tanh(isa, x, y),
        Activation::Gelu => gelu(isa, x, y),
        Activation::Relu => relu(isa, x, y),
    }
}

/// dy ← dy·activation′(x): the gradient of the result becomes that of the argument. y becomes activation(x), which shares
/// the exponential.
pub(crate) fn activate_backward(isa: Isa, activation: Activation, x: &[f32], dy: &mut [f32], y: &mut [f32]) {
    match activation {
        Activation::GeluTanh => gelu_tanh_backward(isa, x, dy, y),
        Activation::Gelu => gelu_backward(isa, x, dy, y),
        Activation::Relu => relu_backward(isa, x, dy, y),
    }
}

/// √(2/π), the factor inside GELU's tanh form.
const SQRT_2_PI: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;

multiversion! {
    /// y = gelu(x) by the tanh form: x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))); y is overwritten.
    ///
    /// D. Hendrycks and K. Gimpel, "Gaussian error linear units", 2016. Since 1 + tanh(u) = 2·σ(2u), it is computed as
    /// x·σ(2u), whose error is that of one exponential: within 4 units in the last place for x > −5, and below 1e-6 in
    /// absolute value elsewhere.
    fn gelu_tanh(x: &[f32], y: &mut [f32]) = gelu_tanh_body;
}

#[inline(always)]
fn gelu_tanh_body(x: &[f32], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = x * sigmoid(2.0 * SQRT_2_PI * (x + CUBIC * x * x * x));
    }
}

multiversion! { fn gelu_tanh_backward(x: &[f32], dy: &mut [f32], y: &mut [f32]) = gelu_tanh_backward_body; }

#[inline(always)]
fn gelu_tanh_backward_body(x: &[f32], dy: &mut [f32], y: &mut [f32]) {
    for ((dy, y), &x) in dy.iter_mut().zip(y.iter_mut()).zip(x) {
        let s = sigmoid(2.0 * SQRT_2_PI * (x + CUBIC * x * x * x));
        let du2 = 2.0 * SQRT_2_PI * (1.0 + 3.0 * CUBIC * x * x);
        *y = x * s;
        *dy *= s + x * s * (1.0 - s) * du2;
    }
}

/// 1/√(2π), the density of the normal distribution at 0.
const DENSITY: f32 = 0.398_942_3;

/// Φ(x) and e^(−x²/2), where Φ is the distribution function of the normal distribution: Φ(x) = (1 + erf(x/√2))/2.
///
/// The tail Φ(−|x|) is t·R(t)·e^(−x²/2) with t = 1/(1 + |x|·TAIL_SLOPE) and a polynomial R, the form of M. Abramowitz and
/// I. Stegun, 26.2.17, with more terms, for |x| < 14, beyond which f32 underflows. The relative error of the result is that
/// of the roundings, 4 units in the last place, and for x < 0 that of the rounded x²/2.
#[inline(always)]
fn normal_distribution(x: f32) -> (f32, f32) {
    const TAIL_SLOPE: f32 = 0.34;
    /// Coefficients of R, from the highest power of t: a fit with equal relative errors, of at most 3e-8.
    const TAIL: [f32; 9] = [
        -0.026_120_48,
        0.139_499_47,
        -0.273_132_6,
        0.202_182_41,
        -0.044_718_217,
        0.115_359_046,
        0.115_197_69,
        0.136_112_2,
        0.135_620_5,
    ];
    let t = 1.0 / (1.0 + TAIL_SLOPE * x.abs());
    let r = TAIL.iter().fold(0.0, |r, c| r * t + c);
    let e = exp(-0.5 * x * x);
    let tail = t * r * e;
    (if x > 0.0 { 1.0 - tail } else { tail }, e)
}

multiversion! {
    /// y = gelu(x) = x·Φ(x); y is overwritten.
    fn gelu(x: &[f32], y: &mut [f32]) = gelu_body;
}

#[inline(always)]
fn gelu_body(x: &[f32], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = x * normal_distribution(x).0;
    }
}

multiversion! {
    /// gelu′(x) = Φ(x) + x·φ(x) with the density φ(x) = e^(−x²/2)/√(2π).
    fn gelu_backward(x: &[f32], dy: &mut [f32], y: &mut [f32]) = gelu_backward_body;
}

#[inline(always)]
fn gelu_backward_body(x: &[f32], dy: &mut [f32], y: &mut [f32]) {
    for ((dy, y), &x) in dy.iter_mut().zip(y.iter_mut()).zip(x) {
        let (distribution, e) = normal_distribution(x);
        *y = x * distribution;
        *dy *= distribution + x * (DENSITY * e);
    }
}

multiversion! {
    /// y = max(x, 0); NaN stays NaN, so that a diverged model is noticed.
    fn relu(x: &[f32], y: &mut [f32]) = relu_body;
}

#[inline(always)]
fn relu_body(x: &[f32], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = if x < 0.0 { 0.0 } else { x };
    }
}

multiversion! {
    /// The derivative at 0 is 0, as in PyTorch.
    fn relu_backward(x: &[f32], dy: &mut [f32], y: &mut [f32]) = relu_backward_body;
}

#[inline(always)]
fn relu_backward_body(x: &[f32], dy: &mut [f32], y: &mut [f32]) {
    for ((dy, y), &x) in dy.iter_mut().zip(y.iter_mut()).zip(x) {
        *y = if x < 0.0 { 0.0 } else { x };
        *dy = if x <= 0.0 { 0.0 } else { *dy };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_and_transformers_names_are_known() {
        for activation in Activation::ALL {
            assert_eq!(activation.to_string().parse(), Ok(activation));
        }
        for name in ["gelu_new", "gelu_fast", "gelu_pytorch_tanh"] {
            assert_eq!(name.parse(), Ok(Activation::GeluTanh));
        }
        let error = "silu".parse::<Activation>().unwrap_err();
        assert!(error.contains("'silu'") && error.contains("gelu_new") && error.contains("relu"), "{error}");
    }

    /// The parity test needs a reference in f64; this one needs the limits at which exponentials end.
    #[test]
    fn the_ends_of_every_function_are_finite() {
        for activation in Activation::ALL {
            let x = [-1e4, -60.0, -14.0, -13.0, -0.0, 0.0, 13.0, 14.0, 60.0, 1e4];
            let (mut y, mut dx, mut again) = ([f32::NAN; 10], [1.0; 10], [f32::NAN; 10]);
            activate(Isa::Portable, activation, &x, &mut y);
            activate_backward(Isa::Portable, activation, &x, &mut dx, &mut again);
            assert_eq!(y, again);
            assert!(y[..4].iter().all(|y| y.abs() < 1e-30), "{activation}: {y:?}");
            assert_eq!(y[6..], x[6..], "{activation}");
            assert_eq!(dx[6..], [1.0; 4], "{activation}");
            let nan = &mut [0.0];
            activate(Isa::Portable, activation, &[f32::NAN], nan);
            assert!(nan[0].is_nan(), "{activation} of NaN");
        }
    }
}
