//! Fuzzes training checkpoints: `state.json`, a zero byte, the file used for weights and both moments.
#![no_main]
#![forbid(unsafe_code)]

#[path = "../checks.rs"]
#[allow(dead_code, reason = "each target runs one check")]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    checks::training_checkpoint(data);
});
