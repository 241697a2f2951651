//! The numbers that the reference computes with.

use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// A floating-point type: f32 or f64.
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
    /// The exponential function, e^x.
    fn exp(self) -> Self;
    /// The natural logarithm, ln x.
    fn ln(self) -> Self;
    /// The square root of x.
    fn sqrt(self) -> Self;
    /// The hyperbolic tangent of x.
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

/// Converts a count to F.
pub(super) fn count<F: Real>(n: usize) -> F {
    F::from(n as f32)
}

/// The value 0 of F.
pub(super) fn zero<F: Real>() -> F {
    F::from(0.0)
}
