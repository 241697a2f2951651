#!/bin/sh
# calame and PyTorch on the same training step, in turn, so that both meet the machine's same moods; one JSON line each.
#
#   bench/peers/compare.sh [ROUNDS] [--preset gpt2 --window 1024 --dropout 0 …]
#
# Needs a python3 with torch (PYTHON names another one). Options go to both programs; TORCH_OPTIONS (such as --compile)
# to PyTorch alone; PRECISIONS ("f32 bf16") says which are compared.
set -eu
cd "$(dirname "$0")/../.."
rounds=3
case "${1:-}" in
[1-9]*)
    rounds=$1
    shift
    ;;
esac
cargo build --release --quiet
for _ in $(seq "$rounds"); do
    for precision in ${PRECISIONS:-f32 bf16}; do
        # shellcheck disable=SC2086 # several options are several words
        "${PYTHON:-python3}" bench/peers/torch_step.py --precision "$precision" "$@" ${TORCH_OPTIONS:-}
        target/release/calame bench train --json --precision "$precision" "$@"
    done
done
