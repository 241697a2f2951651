#!/usr/bin/env bash
# Builds every fuzz target as libFuzzer needs it, with coverage counters and AddressSanitizer, and runs each once on an empty
# input. libFuzzer needs a C++ compiler. RUSTC_BOOTSTRAP makes a stable compiler accept the sanitizer's flag.
set -euo pipefail
cd "$(dirname "$0")"

# With a target named, build scripts and procedural macros are built without the flags below, which they cannot have.
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1
# The flags of cargo-fuzz.
export RUSTFLAGS="--cfg fuzzing -Zsanitizer=address -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
# Apart from the workspace's builds: RUSTC_BOOTSTRAP would make cargo build those again.
export CARGO_TARGET_DIR=../target/fuzz
cargo build --locked --bins --target "$host"

n_targets=0
for source in fuzz_targets/*.rs; do
    target=$(basename "$source" .rs)
    if ! report=$("$CARGO_TARGET_DIR/$host/debug/$target" -runs=1 2>&1); then
        echo "fuzz: $target fails on an empty input:" >&2
        echo "$report" >&2
        exit 1
    fi
    n_targets=$((n_targets + 1))
done
echo "fuzz: $n_targets targets were built and started"
