//! Where operations run, and how long they take there.
//!
//! A new kind of device is a variant of [`Device`] and an implementation of [`Backend`], the list of what a device must do;
//! layers, training and inference need no change.

mod backend;
mod config;
mod profile;

use std::fmt;
use std::io;

pub use backend::{Affine, Backend, Epilogue, FillRows, Init, KvRows, RowSet, WeightRows};
pub use config::{DeviceConfig, DeviceConfigError, MAX_THREADS, Workload, default_threads};
pub use profile::{Clock, Phase, PhaseTotal, Work};

use calame_kernels::{Isa, Pool, Precision};
use profile::Profile;

/// A processor or a GPU, on which operations run one after another.
pub enum Device {
    /// This machine's processor and memory.
    Cpu(Cpu),
    /// A device with memory of its own.
    Gpu(Gpu),
}

/// This machine's processor: threads, their instruction set, the number format of products.
pub struct Cpu {
    pub(crate) pool: Pool,
    pub(crate) precision: Precision,
    profile: Option<Profile>,
}

/// A device with memory of its own, behind the operations that it implements.
pub struct Gpu {
    backend: Box<dyn Backend>,
    profile: Option<Profile>,
}

impl Device {
    /// The processor, with `n_threads` threads, kernels for `isa`, and products in `precision`.
    ///
    /// # Panics
    /// If `n_threads` is 0, this machine lacks `isa`, or the system refuses a thread.
    pub fn cpu(n_threads: usize, isa: Isa, precision: Precision) -> Device {
        Device::Cpu(Cpu { pool: Pool::new(n_threads, isa), precision, profile: None })
    }

    /// As [`Device::cpu`], where a user has chosen the number of threads.
    ///
    /// # Errors
    /// If the system refuses a thread, as under a limit of memory or processes.
    ///
    /// # Panics
    /// If `n_threads` is 0 or this machine lacks `isa`.
    pub fn try_cpu(n_threads: usize, isa: Isa, precision: Precision) -> io::Result<Device> {
        Ok(Device::Cpu(Cpu { pool: Pool::try_new(n_threads, isa)?, precision, profile: None }))
    }

    /// A device with memory of its own.
    pub fn gpu(backend: Box<dyn Backend>) -> Device {
        Device::Gpu(Gpu { backend, profile: None })
    }

    /// The same device; from now on every operation is timed.
    #[must_use]
    pub fn profiled(mut self, clock: Clock) -> Device {
        let (Device::Cpu(Cpu { profile, .. }) | Device::Gpu(Gpu { profile, .. })) = &mut self;
        *profile = Some(Profile::new(clock));
        self
    }

    /// Whether its tensors are in this machine's memory, where files are read and written.
    pub fn is_host(&self) -> bool {
        matches!(self, Device::Cpu(_))
    }

    /// What the device implements: operations go through [`crate::ops`], which times them.
    pub(crate) fn backend(&self) -> &dyn Backend {
        match self {
            Device::Cpu(cpu) => cpu,
            Device::Gpu(gpu) => gpu.backend.as_ref(),
        }
    }

    /// Threads of this machine's processor that operations use.
    pub fn n_threads(&self) -> usize {
        match self {
            Device::Cpu(cpu) => cpu.pool.n_threads(),
            Device::Gpu(_) => 1,
        }
    }

    /// The instruction set of the processor's kernels; portable where a GPU computes.
    pub fn isa(&self) -> Isa {
        match self {
            Device::Cpu(cpu) => cpu.pool.isa(),
            Device::Gpu(_) => Isa::Portable,
        }
    }

    /// The number format of the operands of products.
    pub fn precision(&self) -> Precision {
        match self {
            Device::Cpu(cpu) => cpu.precision,
            Device::Gpu(gpu) => gpu.backend.precision(),
        }
    }

    /// The totals of each phase since the last call, which are reset; all zero without a clock.
    pub fn take_profile(&self) -> [(Phase, PhaseTotal); Phase::ALL.len()] {
        let totals = self.profile().map(Profile::take).unwrap_or_default();
        std::array::from_fn(|i| (Phase::ALL[i], totals[Phase::ALL[i] as usize]))
    }

    /// Runs one operation, and times it if there is a clock.
    pub(crate) fn run<R>(&self, phase: Phase, work: Work, operation: impl FnOnce(&dyn Backend) -> R) -> R {
        match self.profile() {
            None => operation(self.backend()),
            Some(profile) => profile.time(phase, work, || operation(self.backend())),
        }
    }

    fn profile(&self) -> Option<&Profile> {
        match self {
            Device::Cpu(cpu) => cpu.profile.as_ref(),
            Device::Gpu(gpu) => gpu.profile.as_ref(),
        }
    }
}

impl fmt::Debug for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} threads, {}, {}", self.pool.n_threads(), self.pool.isa(), self.precision)
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu(cpu) => write!(f, "Device::Cpu {{ {cpu:?} }}"),
            Device::Gpu(gpu) => write!(f, "Device::Gpu {{ {:?} }}", gpu.backend),
        }
    }
}
