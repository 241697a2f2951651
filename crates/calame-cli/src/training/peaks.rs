//! Measurements of the machine's peak arithmetic and memory rates, and the median of several timings.

use std::time::Instant;

use calame::ops::{self, Device, Precision};
use calame::tensor::Alloc;

/// Floats per pass over memory: 256 MiB, far beyond any cache.
const MEMORY_FLOATS: usize = 64 << 20;

/// The best of several short runs of the multiplication loop, in operations per second.
///
/// The best is taken because disturbances can only slow a run down. Runs are short so that they can alternate with
/// training steps and see the same state of a shared machine.
pub struct Peak {
    precision: Precision,
    n_rounds: usize,
    best: f64,
}

impl Peak {
    pub fn new(precision: Precision) -> Peak {
        Peak { precision, n_rounds: 250_000, best: 0.0 }
    }

    /// Does one more run of at least 10 ms, which is long compared with the time that a thread takes to wake up.
    pub fn run(&mut self, dev: &Device) {
        const LEAST_SECONDS: f64 = 0.01;
        loop {
            let start = Instant::now();
            let n_operations = ops::multiply_in_registers(dev, self.precision, self.n_rounds);
            let seconds = start.elapsed().as_secs_f64();
            if seconds >= LEAST_SECONDS {
                self.best = self.best.max(n_operations / seconds);
                return;
            }
            self.n_rounds *= 2;
        }
    }

    /// The best of ten runs, one after another.
    pub fn of(dev: &Device, precision: Precision) -> f64 {
        let mut peak = Peak::new(precision);
        (0..10).for_each(|_| peak.run(dev));
        peak.best
    }

    pub fn operations_per_second(&self) -> f64 {
        self.best
    }
}

/// Memory rates in bytes per second: of reading alone, and of updating in place, where both directions count.
pub struct Memory {
    pub read: f64,
    pub update: f64,
}

impl Memory {
    /// The best of several passes over an array.
    pub fn of(dev: &Device) -> Memory {
        let mut x = Alloc::on(dev).zeros([MEMORY_FLOATS]);
        // The first pass touches the pages and is not timed.
        ops::update_memory(dev, 1.0, &mut x);
        let bytes = 4.0 * x.len() as f64;
        let mut memory = Memory { read: 0.0, update: 0.0 };
        for _ in 0..5 {
            let start = Instant::now();
            std::hint::black_box(ops::read_memory(dev, &x));
            memory.read = memory.read.max(bytes / start.elapsed().as_secs_f64());
            let start = Instant::now();
            ops::update_memory(dev, 1.0, &mut x);
            memory.update = memory.update.max(2.0 * bytes / start.elapsed().as_secs_f64());
        }
        memory
    }
}

/// The median; of an even number of values, the mean of the middle two.
///
/// # Panics
/// If there are no values.
pub fn median(mut x: Vec<f64>) -> f64 {
    x.sort_by(f64::total_cmp);
    let n = x.len();
    if n % 2 == 1 { x[n / 2] } else { (x[n / 2 - 1] + x[n / 2]) / 2.0 }
}
