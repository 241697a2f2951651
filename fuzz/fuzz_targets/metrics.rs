//! Fuzzes `metrics.jsonl` and the figure drawn from it.
#![no_main]
#![forbid(unsafe_code)]

#[path = "../checks.rs"]
#[allow(dead_code, reason = "each target runs one check")]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    checks::metrics(data);
});
