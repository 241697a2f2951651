//! Kernels compared with their reference, and the reference's gradients with central differences.

mod attention;
mod bounds;
mod cross_entropy;
mod formats;
mod gemm;
mod gradients;
mod memory;
mod packed;
mod parity;
mod pool;
mod random;
mod rows;
mod sizes;
mod support;
