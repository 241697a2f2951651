//! Kernels against their reference, and the reference's gradients against central differences.

#[cfg(target_os = "linux")]
mod aligned;
mod attention;
mod bounds;
mod cross_entropy;
mod gemm;
mod gradients;
mod parity;
mod pool;
mod random;
mod support;
