//! From what was asked for to the device that does the work.

use anyhow::{Result, bail};
use calame::ops::{Device, Isa, Precision};
use calame::train::DeviceConfig;

use crate::output::{UsageError, WithHint};

/// The environment variable that pins the instruction set, for tests and comparisons.
const PIN: &str = "CALAME_INSTRUCTION_SET";

/// Options of every verb that computes.
#[derive(clap::Args, Clone, Debug, Default)]
// clap makes a group of every such struct and calls it after the type: the verb's own is called Args already.
#[group(skip)]
pub struct Args {
    /// Where to compute: cpu (auto takes it)
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,

    /// Numbers that matrices are multiplied in: f32, bf16 or auto (for training bf16 where the processor multiplies it, else f32)
    #[arg(long, value_name = "FORMAT")]
    pub precision: Option<String>,

    /// Threads [default: one for each real core that this process may use]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

impl Args {
    /// The section `[device]` that these flags make.
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

/// The instruction set that `value` of `source` names.
fn isa_of(value: &str, source: &str) -> Result<Isa> {
    Ok(value.parse::<Isa>().map_err(|e| UsageError(format!("{source}: {e}")))?)
}

/// One thread for each real core: two hardware threads of one core share its multipliers, and would only take each other's
/// cache. Never more than this process may use (its affinity, its container's share).
pub fn default_threads() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    allowed.min(num_cpus::get_physical().max(1))
}

/// What a command computes for: what `--precision auto` means depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The fastest that the processor multiplies natively: sums, weights and moments are f32 all the same.
    Training,
    /// f32: a token at a time the weights' bytes are what takes time, and rounding them would save none.
    Inference,
}

/// The device, and its section with what `auto` and 0 became.
pub fn open(config: &DeviceConfig, purpose: Purpose) -> Result<(Device, DeviceConfig)> {
    if !matches!(config.device.as_str(), "auto" | "cpu") {
        let message = format!("device.device is '{}'", config.device);
        bail!(WithHint::usage(message, "this build computes on the cpu: leave --device out, or use --device cpu"));
    }
    let isa = match std::env::var(PIN) {
        Ok(pinned) => isa_of(&pinned, PIN)?,
        Err(_) if config.instruction_set == "auto" => Isa::detect(),
        Err(_) => isa_of(&config.instruction_set, "device.instruction_set")?,
    };
    if !isa.is_available() {
        let names: Vec<&str> = Isa::available().into_iter().map(Isa::name).collect();
        bail!(WithHint::new(
            format!("this processor lacks the instruction set {isa}"),
            format!("it has {}; device.instruction_set = \"auto\" takes the widest", names.join(", "))
        ));
    }
    let precision = match (config.precision.as_str(), purpose) {
        ("auto", Purpose::Training) => Precision::fastest(isa),
        ("auto", Purpose::Inference) => Precision::F32,
        (named, _) => named.parse().map_err(|_| {
            let hint =
                "use --precision f32, bf16 or auto; auto takes bf16 for training where the processor multiplies it";
            WithHint::usage(format!("device.precision is '{named}'"), hint)
        })?,
    };
    /// More threads than any machine has would only cost memory.
    const MAX_THREADS: usize = 1024;
    let threads = match config.threads {
        0 => default_threads(),
        n if n <= MAX_THREADS => n,
        n => {
            let message = format!("device.threads is {n}: expected at most {MAX_THREADS}");
            bail!(WithHint::usage(message, "one for each core is enough: leave --threads out, or use --threads 0"))
        }
    };
    let resolved = DeviceConfig {
        device: "cpu".to_owned(),
        precision: precision.name().to_owned(),
        threads,
        instruction_set: isa.name().to_owned(),
    };
    Ok((Device::cpu(threads, isa, precision), resolved))
}
