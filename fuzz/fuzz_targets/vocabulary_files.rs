//! Fuzzes GPT-2's vocab.json with merges.txt.
#![no_main]
#![forbid(unsafe_code)]

#[path = "../checks.rs"]
#[allow(dead_code, reason = "each target runs one check")]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    checks::vocabulary_files(data);
});
