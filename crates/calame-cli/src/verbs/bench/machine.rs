//! `calame bench machine`: measures the peak arithmetic and memory rates of the machine.

use anyhow::Result;
use calame::device::Workload;
use calame::ops::{Isa, Precision};

use super::args::MachineArgs;
use crate::training::device;
use crate::training::peaks::{Memory, Peak};
use crate::ui::output::{print, print_json};
use crate::ui::verbosity;

pub fn run(args: &MachineArgs) -> Result<()> {
    let (dev, resolved) = device::open(&args.device.config(), Workload::Training)?;
    let _phase = verbosity::phase("measuring");
    let peaks = Precision::ALL.map(|precision| Peak::of(&dev, precision));
    let memory = Memory::of(&dev);
    if args.json {
        return print_json(&serde_json::json!({
            "threads": resolved.threads, "instruction_set": resolved.instruction_set,
            "f32_operations_per_second": peaks[0], "bf16_operations_per_second": peaks[1],
            "bf16_is_native": dev.isa() == Isa::Avx512Bf16,
            "read_bytes_per_second": memory.read, "update_bytes_per_second": memory.update,
        }));
    }
    let mut text = format!("threads  {} ({})\n", resolved.threads, resolved.instruction_set);
    for (precision, peak) in Precision::ALL.into_iter().zip(peaks) {
        let description = device::describe_products(dev.isa(), precision);
        text += format!("{:8} {:6.0} GFLOP/s  {description}", precision.name(), peak / 1e9).trim_end();
        text.push('\n');
    }
    text += &format!("memory   {:6.1} GB/s read, {:.1} GB/s updated\n", memory.read / 1e9, memory.update / 1e9);
    print(&text)
}
