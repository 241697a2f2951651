//! The machine's peaks, and the middle of several measurements.

use std::time::Instant;

use calame::ops::{self, Device, Precision};
use calame::tensor::Alloc;

/// Floats gone through at a time: 256 MiB, far beyond any cache.
const MEMORY_FLOATS: usize = 64 << 20;

/// The best of several short runs of the multiplication loop, in operations a second.
///
/// The best, since what disturbs a run can only slow it; short, so that a training step's neighbours in time are met.
pub struct Peak {
    precision: Precision,
    n_rounds: usize,
    best: f64,
}

impl Peak {
    pub fn new(precision: Precision) -> Peak {
        Peak { precision, n_rounds: 250_000, best: 0.0 }
    }

    /// One more run of at least some ten milliseconds: long beside a thread that wakes up late.
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

    /// The peak among some runs, one after another.
    pub fn of(dev: &Device, precision: Precision) -> f64 {
        let mut peak = Peak::new(precision);
        (0..10).for_each(|_| peak.run(dev));
        peak.best
    }

    pub fn operations_per_second(&self) -> f64 {
        self.best
    }
}

/// Bytes a second: read only, and read and written.
pub struct Memory {
    pub read: f64,
    pub update: f64,
}

impl Memory {
    /// The best of several passes.
    pub fn of(dev: &Device) -> Memory {
        let mut x = Alloc::on(dev).zeros([MEMORY_FLOATS]);
        // Touched before it is timed.
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

/// The middle one; of an even number the mean of the two.
pub fn median(mut x: Vec<f64>) -> f64 {
    x.sort_by(f64::total_cmp);
    let n = x.len();
    if n % 2 == 1 { x[n / 2] } else { (x[n / 2 - 1] + x[n / 2]) / 2.0 }
}
