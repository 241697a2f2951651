//! The section `[device]` of a run's configuration, and the device that it asks for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use calame_kernels::{Isa, Precision};

use super::Device;

/// The most threads that a configuration may ask for: more than any machine has would only cost memory.
pub const MAX_THREADS: usize = 1024;

/// Where and in which numbers: section `[device]`. [`resolve`](Self::resolve) replaces `auto` and 0 by what this machine has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceConfig {
    /// Where to compute: `cpu`, or `auto`, which takes it.
    pub device: String,
    /// What matrices are multiplied in: `f32`, `bf16` or `auto`.
    pub precision: String,
    /// Number of threads; 0 takes one for each physical core that the process may use.
    pub threads: usize,
    /// `avx512-bf16`, `avx512`, `avx2`, `portable` or `auto`, the widest of the processor.
    pub instruction_set: String,
}

impl Default for DeviceConfig {
    fn default() -> DeviceConfig {
        let auto = || AUTO.to_owned();
        DeviceConfig { device: auto(), precision: auto(), threads: 0, instruction_set: auto() }
    }
}

const AUTO: &str = "auto";

/// What a device computes: the meaning of `precision = "auto"` depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// The fastest format that the processor multiplies natively. Sums, weights and moments are f32 in any case.
    Training,
    /// f32. Decoding one token at a time is limited by reading the weights, and rounding them while they are packed saves no
    /// reading.
    Inference,
}

/// A value of `[device]` that cannot be used, or not on this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceConfigError {
    /// A device that this build does not have.
    #[error("device.device is '{found}': expected cpu or auto")]
    UnknownDevice {
        /// The value in the configuration.
        found: String,
    },
    /// A number format that products cannot have.
    #[error("device.precision is '{found}': expected f32, bf16 or auto")]
    UnknownPrecision {
        /// The value in the configuration.
        found: String,
    },
    /// More threads than [`MAX_THREADS`].
    #[error("device.threads is {found}: expected at most {MAX_THREADS}")]
    TooManyThreads {
        /// The value in the configuration.
        found: usize,
    },
    /// An instruction set that calame has no kernels for.
    #[error("device.instruction_set: {reason}")]
    UnknownInstructionSet {
        /// Names the value found and those that exist.
        reason: String,
    },
    /// An instruction set that this processor does not have.
    #[error("this processor lacks the instruction set {isa}")]
    MissingInstructionSet {
        /// The instruction set that was asked for.
        isa: Isa,
    },
    /// Threads that the system does not start.
    #[error("the system refused to start {threads} threads ({reason})")]
    Threads {
        /// The number of threads, the calling one included.
        threads: usize,
        /// The error that the system returned.
        reason: String,
    },
}

/// One thread for each real core that this process may use (its affinity, its container's share): two hardware threads of one
/// core share its multipliers, and would only evict each other's cache lines.
pub fn default_threads() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    allowed.min(num_cpus::get_physical().max(1))
}

impl Device {
    /// The processor with [`default_threads`], its widest instruction set, and f32 products.
    ///
    /// [`DeviceConfig::resolve`] makes other choices, such as the fastest format of products for training.
    pub fn default_cpu() -> Device {
        Device::cpu(default_threads(), Isa::detect(), Precision::F32)
    }
}

impl DeviceConfig {
    /// Checks every value, but not whether this machine has the instruction set.
    ///
    /// # Errors
    /// The first value that cannot be used, with what it may be.
    pub fn validate(&self) -> Result<(), DeviceConfigError> {
        if !matches!(self.device.as_str(), AUTO | "cpu") {
            return Err(DeviceConfigError::UnknownDevice { found: self.device.clone() });
        }
        if self.threads > MAX_THREADS {
            return Err(DeviceConfigError::TooManyThreads { found: self.threads });
        }
        self.named_precision()?;
        self.named_isa().map(|_| ())
    }

    /// Opens the device, and returns it with the section in which `auto` and 0 are replaced by the values taken.
    ///
    /// `pinned`, where it is given, takes precedence over `instruction_set`: the library reads no environment variables, so a
    /// caller that has one passes its value.
    ///
    /// # Errors
    /// As [`validate`](Self::validate); also if this processor lacks the instruction set, or the system refuses a thread.
    pub fn resolve(
        &self,
        workload: Workload,
        pinned: Option<Isa>,
    ) -> Result<(Device, DeviceConfig), DeviceConfigError> {
        self.validate()?;
        let isa = match pinned {
            Some(isa) => isa,
            None => self.named_isa()?.unwrap_or_else(Isa::detect),
        };
        if !isa.is_available() {
            return Err(DeviceConfigError::MissingInstructionSet { isa });
        }
        let precision = match (self.named_precision()?, workload) {
            (Some(named), _) => named,
            (None, Workload::Training) => Precision::fastest(isa),
            (None, Workload::Inference) => Precision::F32,
        };
        let threads = if self.threads == 0 { default_threads() } else { self.threads };
        let resolved = DeviceConfig {
            device: "cpu".to_owned(),
            precision: precision.name().to_owned(),
            threads,
            instruction_set: isa.name().to_owned(),
        };
        let device = Device::try_cpu(threads, isa, precision);
        let refused = |error: std::io::Error| DeviceConfigError::Threads { threads, reason: error.to_string() };
        Ok((device.map_err(refused)?, resolved))
    }

    /// The precision, where the section names one.
    fn named_precision(&self) -> Result<Option<Precision>, DeviceConfigError> {
        let error = |_| DeviceConfigError::UnknownPrecision { found: self.precision.clone() };
        if self.precision == AUTO { Ok(None) } else { self.precision.parse().map(Some).map_err(error) }
    }

    /// The instruction set, where the section names one.
    fn named_isa(&self) -> Result<Option<Isa>, DeviceConfigError> {
        let error = |reason| DeviceConfigError::UnknownInstructionSet { reason };
        if self.instruction_set == AUTO { Ok(None) } else { self.instruction_set.parse().map(Some).map_err(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn portable() -> DeviceConfig {
        DeviceConfig { threads: 1, instruction_set: "portable".to_owned(), ..DeviceConfig::default() }
    }

    #[test]
    fn auto_becomes_what_the_machine_has() {
        let (dev, resolved) = DeviceConfig::default().resolve(Workload::Inference, None).unwrap();
        assert_eq!((dev.n_threads(), dev.isa(), dev.precision()), (default_threads(), Isa::detect(), Precision::F32));
        let again = resolved.resolve(Workload::Training, None).unwrap().1;
        assert_eq!(again, resolved, "a resolved section leaves nothing to decide");
        let (dev, resolved) = portable().resolve(Workload::Training, None).unwrap();
        assert_eq!((dev.n_threads(), dev.isa(), dev.precision()), (1, Isa::Portable, Precision::F32));
        assert_eq!((resolved.device.as_str(), resolved.precision.as_str()), ("cpu", "f32"));
    }

    #[test]
    fn a_pinned_instruction_set_wins() {
        let config = DeviceConfig { threads: 1, ..DeviceConfig::default() };
        let (dev, resolved) = config.resolve(Workload::Training, Some(Isa::Portable)).unwrap();
        assert_eq!((dev.isa(), resolved.instruction_set.as_str()), (Isa::Portable, "portable"));
    }

    #[test]
    fn wrong_values_are_named() {
        let message = |config: DeviceConfig| config.validate().unwrap_err().to_string();
        assert!(message(DeviceConfig { device: "cuda".to_owned(), ..portable() }).contains("device.device is 'cuda'"));
        assert!(message(DeviceConfig { precision: "fp8".to_owned(), ..portable() }).contains("is 'fp8': expected f32"));
        assert!(message(DeviceConfig { threads: 1025, ..portable() }).contains("device.threads is 1025"));
        assert!(message(DeviceConfig { instruction_set: "sse".to_owned(), ..portable() }).contains("'sse'"));
    }
}
