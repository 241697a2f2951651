//! Records tests that are skipped, so that the last test binary can list them. Test binaries include this file by its
//! path.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the records: one file for each skipped test.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("skipped")
}

/// The start of the names of this run's files: all binaries of one `cargo test` have the same parent.
pub fn run() -> String {
    #[cfg(unix)]
    let parent = std::os::unix::process::parent_id();
    #[cfg(not(unix))]
    let parent = 0;
    format!("{parent}-")
}

/// Reports that the calling test is skipped, or a part of it, and records that.
#[allow(dead_code, reason = "the binary that lists the records skips nothing")]
pub fn skip(reason: impl fmt::Display) {
    // The test harness names a test's thread after the test.
    let thread = std::thread::current();
    let line = format!("{}: {reason}\n", thread.name().unwrap_or("a test"));
    eprint!("skipped: {line}");
    let file = folder().join(format!("{}{:016x}", run(), hash(&line)));
    // A record that cannot be written must fail the test: a skipped test is never silent.
    fs::create_dir_all(folder())
        .and_then(|()| fs::write(&file, line))
        .unwrap_or_else(|e| panic!("{}: {e}", file.display()));
}

/// FNV-1a, so that a test that is skipped twice for one reason has one record.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
