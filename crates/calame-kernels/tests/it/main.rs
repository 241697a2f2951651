//! Kernels against their reference, and the reference's gradients against central differences.

mod bounds;
mod gradients;
mod parity;
mod pool;
mod random;
mod support;
