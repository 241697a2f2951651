//! Fuzzes an ONNX graph and its weight file.
#![no_main]
#![forbid(unsafe_code)]

#[path = "../checks.rs"]
#[allow(dead_code, reason = "each target runs one check")]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    checks::onnx(data);
});
