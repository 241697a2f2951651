//! The limits of the machine: loops that only multiply, only read, or only update memory.
//!
//! They return the amount of work, so that a caller with a clock can compute the rate; the times of kernels are
//! compared with it.

use crate::disjoint_mut::DisjointMut;
use crate::elementwise::scale;
use crate::isa::{Isa, multiversion};
use crate::math::sum_of;
use crate::pool::Pool;
use crate::precision::Precision;
use crate::split::for_rows;

/// Multiplies and adds in registers, `rounds` times on each thread, with the widest instructions for `precision`.
///
/// Returns the number of operations; a multiplication and an addition count as two. As in products, bf16 is multiplied
/// as f32 if the instruction set does not multiply it natively.
pub fn multiply_in_registers(pool: &Pool, precision: Precision, rounds: usize) -> f64 {
    let n_threads = pool.n_threads();
    let mut results = vec![0.0; n_threads];
    let parts = DisjointMut::new(&mut results);
    let loop_of = match (pool.isa(), precision) {
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512Bf16, Precision::Bf16) => x86::bf16_loop,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512 | Isa::Avx512Bf16, _) => x86::avx512_loop,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, _) => x86::avx2_loop,
        _ => portable_loop as unsafe fn(usize) -> (f32, usize),
    };
    let mut n_operations = vec![0usize; n_threads];
    let counts = DisjointMut::new(&mut n_operations);
    // One task per thread: a thread that starts late still finds its own task.
    pool.run(n_threads, |task| {
        // SAFETY: tasks have different elements; the machine has the pool's instruction set.
        unsafe {
            let (result, n) = loop_of(rounds);
            parts.part(task, task + 1)[0] = result;
            counts.part(task, task + 1)[0] = n;
        }
    });
    assert!(results.iter().all(|r| r.is_finite()), "multiply_in_registers: the sums stay finite");
    n_operations.iter().map(|&n| n as f64).sum()
}

/// Reads `x` once, on all threads, and returns the sum of its elements.
pub fn read_memory(pool: &Pool, x: &[f32]) -> f32 {
    /// Elements per task, 256 kB: few enough to balance the threads, many enough to hide the cost of starting a task.
    const PIECE: usize = 64 * 1024;
    let mut sums = vec![0.0; x.len().div_ceil(PIECE)];
    let parts = DisjointMut::new(&mut sums);
    pool.run(x.len().div_ceil(PIECE), |task| {
        let piece = &x[task * PIECE..((task + 1) * PIECE).min(x.len())];
        // SAFETY: tasks have different elements.
        unsafe { parts.part(task, task + 1)[0] = sum_slice(pool.isa(), piece) };
    });
    sums.iter().sum()
}

/// Reads and writes every element of `x` once, on all threads, multiplying it by `factor`.
pub fn update_memory(pool: &Pool, factor: f32, x: &mut [f32]) {
    for_rows(pool, x, 1, |_, piece| scale(pool.isa(), factor, piece));
}

multiversion! { fn sum_slice(x: &[f32]) -> f32 = sum_slice_body; }

#[inline(always)]
fn sum_slice_body(x: &[f32]) -> f32 {
    sum_of(x, |x| x)
}

/// Number of independent sums: more than two multipliers with a latency of four or five cycles need, and few enough for
/// the compiler to keep each in a register (it spilled 24 to memory, which reached 0.6 of the peak).
const CHAINS: usize = 12;

unsafe fn portable_loop(rounds: usize) -> (f32, usize) {
    let mut sums = [[1.0f32; 4]; CHAINS];
    let factor = std::hint::black_box(0.5f32);
    for _ in 0..rounds {
        for sum in &mut sums {
            sum.iter_mut().for_each(|s| *s = *s * factor + 0.25);
        }
    }
    (sums.as_flattened().iter().sum(), rounds * CHAINS * 4 * 2)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::CHAINS;

    #[target_feature(enable = "avx512f")]
    pub unsafe fn avx512_loop(rounds: usize) -> (f32, usize) {
        let mut sums = [_mm512_set1_ps(1.0); CHAINS];
        let (factor, term) = (_mm512_set1_ps(std::hint::black_box(0.5)), _mm512_set1_ps(0.25));
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, factor, term);
            }
        }
        let total = sums.iter().map(|&s| _mm512_reduce_add_ps(s)).sum();
        (total, rounds * CHAINS * 16 * 2)
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub unsafe fn bf16_loop(rounds: usize) -> (f32, usize) {
        let mut sums = [_mm512_set1_ps(1.0); CHAINS];
        let small = _mm512_set1_ps(std::hint::black_box(1e-9));
        let pairs = _mm512_cvtne2ps_pbh(small, small);
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, pairs, pairs);
            }
        }
        let total = sums.iter().map(|&s| _mm512_reduce_add_ps(s)).sum();
        (total, rounds * CHAINS * 32 * 2)
    }

    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn avx2_loop(rounds: usize) -> (f32, usize) {
        let mut sums = [_mm256_set1_ps(1.0); CHAINS];
        let (factor, term) = (_mm256_set1_ps(std::hint::black_box(0.5)), _mm256_set1_ps(0.25));
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, factor, term);
            }
        }
        let mut total = 0.0;
        for sum in sums {
            let mut lanes = [0.0f32; 8];
            // SAFETY: the array has eight elements.
            unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sum) };
            total += lanes.iter().sum::<f32>();
        }
        (total, rounds * CHAINS * 8 * 2)
    }
}
