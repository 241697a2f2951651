//! The flags `--device`, `--precision` and `--threads`, and the device that they select.

use anyhow::Result;
use calame::device::{Device, DeviceConfig, DeviceConfigError, Workload};
use calame::ops::{Isa, Precision};

use crate::ui::output::{UsageError, WithHint, count};

/// The environment variable that pins the instruction set, for tests and comparisons.
const PIN: &str = "CALAME_INSTRUCTION_SET";

/// Flags of every verb that computes.
#[derive(clap::Args, Clone, Debug, Default)]
// clap makes a group of every such struct and names it after the type, and the verb's own struct is called Args too.
#[group(skip)]
pub struct Args {
    /// Where to compute: cpu, or auto, which selects it
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,

    /// Format in which matrices are multiplied: f32, bf16 or auto (for training, bf16 if the processor multiplies it
    /// natively; otherwise f32)
    #[arg(long, value_name = "FORMAT")]
    pub precision: Option<String>,

    /// Number of threads [default: one for each physical core that this process may use]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

impl Args {
    /// The section `[device]` with the values of these flags.
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

/// Opens a device. Returns it with its section, in which `auto` and 0 are replaced by what was selected.
///
/// # Errors
/// If the settings or the environment variable name what does not exist, or what this machine lacks.
pub fn open(config: &DeviceConfig, workload: Workload) -> Result<(Device, DeviceConfig)> {
    config.validate().map_err(with_hint)?;
    let pinned = match std::env::var(PIN) {
        Ok(pinned) => Some(pinned.parse::<Isa>().map_err(|error| UsageError(format!("{PIN}: {error}")))?),
        Err(_) => None,
    };
    config.resolve(workload, pinned).map_err(with_hint)
}

/// Adds the flags that help against an error.
pub fn with_hint(error: DeviceConfigError) -> anyhow::Error {
    use DeviceConfigError as E;
    match &error {
        E::UnknownDevice { .. } => {
            WithHint::usage(&error, "this build computes on the cpu: leave --device out, or use --device cpu").into()
        }
        E::UnknownPrecision { .. } => {
            let hint = "use --precision f32, bf16 or auto; auto selects bf16 for training if the processor multiplies it natively";
            WithHint::usage(&error, hint).into()
        }
        E::TooManyThreads { .. } => {
            WithHint::usage(&error, "one for each core is enough: leave --threads out, or use --threads 0").into()
        }
        E::UnknownInstructionSet { .. } => UsageError::from(error).into(),
        E::MissingInstructionSet { .. } => {
            let names: Vec<&str> = Isa::available().into_iter().map(Isa::name).collect();
            let hint = format!("it has {}; device.instruction_set = \"auto\" selects the widest", names.join(", "));
            WithHint::new(&error, hint).into()
        }
    }
}

/// A device in a few words, such as `bf16 on the cpu with 2 threads (avx512-bf16)`.
pub fn describe(device: &DeviceConfig) -> String {
    let threads = count(device.threads, "thread");
    format!("{} on the {} with {threads} ({})", device.precision, device.device, device.instruction_set)
}

/// How a machine multiplies in `precision`; empty for f32, which needs no remark.
pub fn describe_products(isa: Isa, precision: Precision) -> &'static str {
    match precision {
        Precision::Bf16 if Precision::fastest(isa) != Precision::Bf16 => "rounded to bf16, multiplied as f32",
        Precision::Bf16 => "multiplied natively",
        Precision::F32 => "",
    }
}
