//! The numbers that the reference computes with.

use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// f32 or f64.
pub trait Real:
    Copy
    + PartialOrd
    + From<f32>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + Sum
{
    /// e^x.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
}

macro_rules! real {
    ($($t:ident),*) => {$(
        impl Real for $t {
            fn exp(self) -> $t { $t::exp(self) }
            fn ln(self) -> $t { $t::ln(self) }
            fn sqrt(self) -> $t { $t::sqrt(self) }
            fn tanh(self) -> $t { $t::tanh(self) }
        }
    )*};
}
real!(f32, f64);

/// `n` as a number to compute with.
pub(super) fn count<F: Real>(n: usize) -> F {
    F::from(n as f32)
}

/// 0.
pub(super) fn zero<F: Real>() -> F {
    F::from(0.0)
}
