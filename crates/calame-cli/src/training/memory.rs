//! Memory of this process and of the system, as Linux reports it in /proc and /sys. Other systems give none.

use std::fs;

/// The bytes of a line `Name:   1234 kB` of a file in /proc.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

fn of_this_process(name: &str) -> Option<u64> {
    field(&fs::read_to_string("/proc/self/status").ok()?, name)
}

/// The peak memory of this process in bytes.
pub fn peak_bytes() -> Option<u64> {
    of_this_process("VmHWM")
}

/// The memory of this process in bytes.
pub fn held_bytes() -> Option<u64> {
    of_this_process("VmRSS")
}

/// Bytes of memory that the system can still give to programs, at most what the limit of a container leaves.
pub fn available_bytes() -> Option<u64> {
    let system = field(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable")?;
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let limit = number("/sys/fs/cgroup/memory.max");
    let left = limit.map(|limit| limit.saturating_sub(number("/sys/fs/cgroup/memory.current").unwrap_or(0)));
    Some(left.map_or(system, |left| left.min(system)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text =
            "MemTotal:       24536496 kB\nMemFree:  1 kB\nMemAvailable:   20000000 kB\nHugePages_Total:       0\n";
        assert_eq!(field(text, "MemAvailable"), Some(20_000_000 * 1024));
        assert_eq!(field(text, "Mem"), None);
        assert_eq!(field(text, "HugePages_Total"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_is_known() {
        let (held, peak) = (held_bytes().unwrap(), peak_bytes().unwrap());
        assert!(held > 1 << 20 && peak >= held, "{held} of {peak}");
        assert!(available_bytes().unwrap() > 1 << 20);
    }
}
