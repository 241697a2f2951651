//! Inputs and comparisons shared by several tests.

use calame_kernels::{Isa, Key, Pool, fill_normal, fill_uniform, philox};

/// n numbers in [-1, 1) from a seed.
pub fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let mut x = vec![0.0; n];
    fill_uniform(&Pool::new(1, Isa::Portable), Key::from_seed(seed), -1.0, 1.0, &mut x);
    x
}

/// n normal numbers of standard deviation `std` from a seed.
pub fn normals(seed: u64, n: usize, std: f32) -> Vec<f32> {
    let mut x = vec![0.0; n];
    fill_normal(&Pool::new(1, Isa::Portable), Key::from_seed(seed), 0.0, std, &mut x);
    x
}

/// n words of random bits from a seed.
pub fn words(seed: u64, n: usize) -> Vec<u64> {
    let word = |i| {
        let [low, high, ..] = philox([i as u32, 0, 0, 0], Key::from_seed(seed));
        u64::from(high) << 32 | u64::from(low)
    };
    (0..n).map(word).collect()
}

pub fn to_f64(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// The content of an output before an operation that overwrites it.
pub fn nans(n: usize) -> Vec<f32> {
    vec![f32::NAN; n]
}

/// Runs a test under every instruction set of this machine, with one thread and with three.
pub fn for_every_pool(test: impl Fn(&Pool)) {
    for isa in Isa::available() {
        for n_threads in [1, 3] {
            test(&Pool::new(n_threads, isa));
        }
    }
}

/// Asserts that |got − want| is at most the element's tolerance, for all elements.
pub fn assert_close(what: &str, got: &[f32], want: &[f64], tolerance: impl Fn(usize) -> f64) {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let (error, allowed) = ((f64::from(g) - w).abs(), tolerance(i));
        assert!(error <= allowed, "{what}[{i}]: got {g}, want {w}, error {error:e} above {allowed:e}");
    }
}

/// Half a unit in the last place of f32 at 1.
pub const EPSILON: f64 = f32::EPSILON as f64 / 2.0;
