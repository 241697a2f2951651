#!/usr/bin/env python3
"""Decoding and prompts of calame beside llama.cpp, on the same GGUF files: one after the other, in alternating order.

  inference.py target/release/calame llama-bench decode 5 2 gpt2-f32.gguf gpt2-q8_0.gguf

measures, five times with two threads, 128 tokens after 32; `prompt` instead of `decode` measures a prompt of 512 tokens.
Each line has the medians, the median of the ratios with the least and the greatest, and calame's share of the bound.
llama-bench is built from llama.cpp's sources (-DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON).
"""

import csv
import io
import json
import statistics
import subprocess
import sys

ROUNDS = "3"


def calame(program, kind, file, threads):
    command = [program, "bench", kind, "--model", file, "--rounds", ROUNDS, "--threads", threads, "--json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def llama(program, kind, file, threads):
    sizes = ["-p", "0", "-n", "128", "-d", "32"] if kind == "decode" else ["-p", "512", "-n", "0"]
    command = [program, "-m", file, "-t", threads, "-r", ROUNDS, "-o", "csv", *sizes]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(next(csv.DictReader(io.StringIO(output)))["avg_ts"])


def compare(programs, kind, rounds, threads, file):
    ours, theirs = [], []
    for i in range(rounds):
        if i % 2 == 0:
            ours.append(calame(programs[0], kind, file, threads))
            theirs.append(llama(programs[1], kind, file, threads))
        else:
            theirs.append(llama(programs[1], kind, file, threads))
            ours.append(calame(programs[0], kind, file, threads))
    speeds = [run["tokens_per_second"] for run in ours]
    ratios = [a / b for a, b in zip(speeds, theirs)]
    share = "share_of_bandwidth" if kind == "decode" else "share_of_peak"
    print(
        f"{file} {kind}, {threads} threads: calame {statistics.median(speeds):.1f}, llama.cpp "
        f"{statistics.median(theirs):.1f} tokens/s, {statistics.median(ratios):.2f} x ({min(ratios):.2f} to "
        f"{max(ratios):.2f}); {share} {statistics.median(run[share] for run in ours):.2f}, read "
        f"{statistics.median(run['read_bytes_per_second'] for run in ours) / 1e9:.0f} GB/s",
        flush=True,
    )


def main():
    if len(sys.argv) < 7 or sys.argv[3] not in ("decode", "prompt"):
        sys.exit(__doc__)
    for file in sys.argv[6:]:
        compare(sys.argv[1:3], sys.argv[3], int(sys.argv[4]), sys.argv[5], file)


if __name__ == "__main__":
    main()
