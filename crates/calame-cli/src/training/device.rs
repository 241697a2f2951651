//! The flags `--device`, `--precision` and `--threads`, and the device that they select.

use anyhow::Result;
use calame::device::{Device, DeviceConfig, DeviceConfigError, Workload, default_threads};
use calame::ops::{Isa, Precision};
use calame::plan::Processor;

use crate::training::memory;
use crate::ui::output::{UsageError, WithHint, count};
use crate::ui::verbosity;

/// The environment variable that overrides the instruction set, for tests and comparisons.
const ISA_VARIABLE: &str = "CALAME_INSTRUCTION_SET";

/// Flags shared by all verbs that compute.
#[derive(clap::Args, Clone, Debug, Default)]
// clap names the argument group of a struct after its type. The verb's own struct is also called Args, so skip this
// one.
#[group(skip)]
pub struct Args {
    /// Device to compute on: cpu, or auto, which selects cpu
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,

    /// Format in which matrices are multiplied: f32, bf16 or auto (for training the faster one; otherwise f32)
    #[arg(long, value_name = "FORMAT")]
    pub precision: Option<String>,

    /// Number of threads [default: one per physical core available to the process]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

impl Args {
    /// The section `[device]` with the values of the flags; flags that are not given have their defaults.
    pub fn config(&self) -> DeviceConfig {
        let default = DeviceConfig::default();
        DeviceConfig {
            device: self.device.clone().unwrap_or(default.device),
            precision: self.precision.clone().unwrap_or(default.precision),
            threads: self.threads.unwrap_or(default.threads),
            instruction_set: default.instruction_set,
        }
    }
}

/// Opens a device. Returns it with its resolved section: the selected values replace `auto` and 0.
///
/// # Errors
/// If a setting or the environment variable has a value that is unknown or that this machine does not support.
pub fn open(config: &DeviceConfig, workload: Workload) -> Result<(Device, DeviceConfig)> {
    config.validate().map_err(with_hint)?;
    memory::require_program(if config.threads == 0 { default_threads() } else { config.threads })?;
    let pinned = match std::env::var(ISA_VARIABLE) {
        Ok(pinned) => Some(pinned.parse::<Isa>().map_err(|error| UsageError(format!("{ISA_VARIABLE}: {error}")))?),
        Err(_) => None,
    };
    let (dev, resolved) = config.resolve(workload, pinned).map_err(with_hint)?;
    verbosity::detail(describe(&resolved));
    Ok((dev, resolved))
}

/// Adds a hint: the flags that resolve the error.
pub fn with_hint(error: DeviceConfigError) -> anyhow::Error {
    use DeviceConfigError as E;
    match &error {
        E::UnknownDevice { .. } => {
            WithHint::usage(&error, "the only device of this build is the CPU: omit --device, or use --device cpu")
                .into()
        }
        E::UnknownPrecision { .. } => {
            let hint = "use --precision f32, bf16 or auto; auto selects the faster one for training";
            WithHint::usage(&error, hint).into()
        }
        E::TooManyThreads { .. } => {
            WithHint::usage(&error, "one thread per core is enough: omit --threads, or use --threads 0").into()
        }
        E::UnknownInstructionSet { .. } => UsageError::from(error).into(),
        E::MissingInstructionSet { .. } => {
            let names: Vec<&str> = Isa::available().into_iter().map(Isa::name).collect();
            let hint = format!(
                "this machine supports {}; device.instruction_set = \"auto\" selects the widest",
                names.join(", ")
            );
            WithHint::new(&error, hint).into()
        }
        E::Threads { .. } => {
            let hint =
                "use fewer, by --threads 1, or raise the limits of memory and processes (see ulimit -v and ulimit -u)";
            WithHint::new(&error, hint).into()
        }
    }
}

/// What a plan of memory must know about a device.
pub fn processor(dev: &Device) -> Processor {
    Processor { isa: dev.isa(), precision: dev.precision(), n_threads: dev.n_threads() }
}

/// A short description of a device, such as `bf16 on the cpu with 2 threads (avx512-bf16)`.
pub fn describe(device: &DeviceConfig) -> String {
    let threads = count(device.threads, "thread");
    format!("{} on the {} with {threads} ({})", device.precision, device.device, device.instruction_set)
}

/// How matrix products are computed in `precision`; empty for f32.
pub fn describe_products(isa: Isa, precision: Precision) -> &'static str {
    match precision {
        Precision::Bf16 if isa != Isa::Avx512Bf16 => "rounded to bf16, multiplied as f32",
        Precision::Bf16 => "multiplied natively",
        Precision::F32 => "",
    }
}
