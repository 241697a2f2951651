//! Fuzzes PyTorch files: zip archives, or the layout before version 1.6.
#![no_main]
#![forbid(unsafe_code)]

#[path = "../checks.rs"]
#[allow(dead_code, reason = "each target runs one check")]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    checks::torch_file(data);
});
