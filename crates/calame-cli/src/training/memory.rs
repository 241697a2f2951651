//! Memory of this process, and what the system, the process's limits and its containers still allow.
//!
//! Linux reports it in /proc and /sys; other systems tell their limits only.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::ui::output::{WithHint, size};

/// Where control groups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";
/// What every verb may need besides what it plans: the program, its libraries, a tokenizer's tables.
const PROGRAM_BYTES: u64 = 48 << 20;

/// What bounds the memory that this process can still get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Free memory of the machine.
    Machine,
    /// The limit of a container or another control group.
    Container,
    /// A limit of the process, as set by `ulimit`.
    Process(&'static str),
}

impl Bound {
    /// What the user can do about it.
    fn remedy(self) -> String {
        match self {
            Bound::Machine => "close other programs".to_owned(),
            Bound::Container => "raise the memory limit of the container".to_owned(),
            Bound::Process(flag) => format!("raise the limit of the process (ulimit {flag})"),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::Machine => f.write_str("is free"),
            Bound::Container => f.write_str("is left in this container"),
            Bound::Process(flag) => write!(f, "is left to this process (ulimit {flag})"),
        }
    }
}

/// Refuses work that needs more memory than this process can get. Nothing is refused where that is unknown.
///
/// `smaller` says what would need less.
///
/// # Errors
/// Names what is needed, what is left, and what bounds it.
pub fn require(what: &str, needed_bytes: u64, smaller: &str) -> Result<()> {
    let Some((left, bound)) = available() else { return Ok(()) };
    if needed_bytes <= left {
        return Ok(());
    }
    let message = format!("{what} needs {} of memory, {} {bound}", size(needed_bytes), size(left));
    Err(WithHint::new(message, format!("{}; or {smaller}", bound.remedy())).into())
}

/// Refuses any verb where not even the program fits, and `n_threads` threads beside it.
///
/// # Errors
/// As [`require`].
pub fn require_program(n_threads: usize) -> Result<()> {
    // The stack of a thread, and the allocator's first piece for it.
    const THREAD_BYTES: u64 = 3 << 20;
    let threads = (n_threads as u64).saturating_mul(THREAD_BYTES);
    require("calame", PROGRAM_BYTES.saturating_add(threads), "use fewer threads, by --threads")
}

/// The bytes of text that a verb reads into memory at once: its tokens take several times as much.
pub fn max_text_bytes() -> u64 {
    const MOST: u64 = 2 << 30;
    available().map_or(MOST, |(left, _)| (left / 8).min(MOST))
}

/// The bytes of a line `Name:   1234 kB` of a file in /proc.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
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

/// Bytes of memory that this process can still get: what the machine has, at most what the limits of its containers and
/// its own leave.
pub fn available_bytes() -> Option<u64> {
    available().map(|(bytes, _)| bytes)
}

/// Bytes of memory that this process can still get, and what bounds them.
fn available() -> Option<(u64, Bound)> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok();
    let machine = meminfo.and_then(|text| field(&text, "MemAvailable")).map(|bytes| (bytes, Bound::Machine));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let container = left_in_groups(Path::new(CGROUPS), &groups).map(|bytes| (bytes, Bound::Container));
    machine.into_iter().chain(container).chain(left_to_process()).min_by_key(|(bytes, _)| *bytes)
}

/// What the limits of the process leave of its address space and of its data.
#[cfg(unix)]
fn left_to_process() -> impl Iterator<Item = (u64, Bound)> {
    use rustix::process::{Resource, getrlimit};
    let left = |resource, used, flag| {
        let limit = getrlimit(resource).current?;
        Some((limit.saturating_sub(of_this_process(used).unwrap_or(0)), Bound::Process(flag)))
    };
    left(Resource::As, "VmSize", "-v").into_iter().chain(left(Resource::Data, "VmData", "-d"))
}

#[cfg(not(unix))]
fn left_to_process() -> impl Iterator<Item = (u64, Bound)> {
    std::iter::empty()
}

/// The least that any control group leaves which contains this process, directly or through others: `groups` is
/// /proc/self/cgroup. Both versions of control groups count; a group whose files cannot be read does not.
fn left_in_groups(mount: &Path, groups: &str) -> Option<u64> {
    let left = groups.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let is_second = controllers.is_empty();
        if !is_second && !controllers.split(',').any(|name| name == "memory") {
            return None;
        }
        let roots = if is_second {
            [mount.to_owned(), mount.join("unified")]
        } else {
            [mount.join("memory"), mount.join(controllers)]
        };
        roots.into_iter().filter_map(|root| least_up_to(&root, path, is_second)).min()
    });
    left.min()
}

/// The least that the group at `path` below `root` and those around it leave. In a container, the group may be called by
/// a path that is not visible; `root` itself is the container's group then.
fn least_up_to(root: &Path, path: &str, is_second: bool) -> Option<u64> {
    let below: PathBuf = path.trim_start_matches('/').into();
    let groups = below.ancestors().map(|group| root.join(group));
    groups.filter_map(|group| left_in_group(&group, is_second)).min()
}

/// What a group's limit leaves. Pages of files that the system can drop at any time do not count as used.
fn left_in_group(group: &Path, is_second: bool) -> Option<u64> {
    let (limit, usage, droppable) = match is_second {
        true => ("memory.max", "memory.current", "inactive_file"),
        false => ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    };
    let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
    let limit = number(limit)?;
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let dropped = stat.lines().find_map(|line| line.strip_prefix(droppable)?.trim().parse::<u64>().ok()).unwrap_or(0);
    Some(limit.saturating_sub(number(usage).unwrap_or(0).saturating_sub(dropped)))
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

    #[test]
    fn the_tightest_of_nested_groups_counts() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let left = |groups: &str| left_in_groups(folder.path(), groups);
        assert_eq!(left("0::/a/b\n"), None);
        // The second version: the outer group is tighter, and part of what it holds can be dropped.
        write("a/b/memory.max", "max\n");
        write("a/memory.max", "1000\n");
        write("a/memory.current", "900\n");
        write("a/memory.stat", "anon 600\ninactive_file 300\nactive_file 0\n");
        assert_eq!(left("0::/a/b\n"), Some(400));
        write("a/b/memory.max", "350\n");
        assert_eq!(left("0::/a/b\n"), Some(350));
        write("a/b/memory.current", "500\n");
        assert_eq!(left("0::/a/b\n"), Some(0));
        // A path that is not visible in the container, whose own group is the root.
        write("memory.max", "77\n");
        assert_eq!(left("0::/docker/0123\n"), Some(77));
        // The first version, beside others.
        write("memory/x/memory.limit_in_bytes", "5000\n");
        write("memory/x/memory.usage_in_bytes", "2000\n");
        write("memory/x/memory.stat", "inactive_file 1\ntotal_inactive_file 500\n");
        assert_eq!(left("12:cpu,cpuacct:/x\n9:memory:/x/y\n1:name=systemd:/z\n"), Some(3500));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_bounds_it() {
        require("nothing", 0, "").unwrap();
        if let Some((_, bound)) = available() {
            let error = require("the model", u64::MAX, "use a smaller model").unwrap_err().to_string();
            assert!(error.starts_with("the model needs ") && error.ends_with(&bound.to_string()), "{error}");
        }
    }
}
