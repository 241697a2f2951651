#!/usr/bin/env python3
"""Makes golden/quantize_blocks.bin: elements, and what llama.cpp's reference quantization makes of them.

Little-endian: u32 n; n elements in f32, in groups of 256; then for each format u32 ggml_type and the blocks of all
elements. The elements are some of weights' sizes and some extreme ones, all finite.

Compiles quantize_blocks.c with the ggml-quants.c of a checkout of llama.cpp, for any x86-64 processor and without
fused multiply-add. A second run gives the same bytes.

  quantize_blocks.py LLAMA_CPP
"""

import argparse
import math
import random
import struct
import subprocess
import tempfile
from pathlib import Path

SEED = 20261127
# F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL, Q2_K to Q6_K, IQ4_XS, TQ1_0, TQ2_0.
TYPES = [1, 30, 8, 2, 3, 6, 7, 20, 10, 11, 12, 13, 14, 23, 34, 35]
FLAGS = ["-O2", "-std=c11", "-ffp-contract=off", "-DNDEBUG", "-w"]
# Unused functions, which need the rest of ggml, are left out.
SECTIONS = ["-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections"]
# Seeds of weights whose blocks show whether the fifth pass of Q3_K was made, the last scale of Q4_K or Q5_K tried, one
# scale too many tried in Q4_K, and whether Q4_K or Q5_K used fused multiply-add.
WEIGHTS = [791, 248, 382, 170, 143, 2171]
# Values of IQ4_NL.
VALUES = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]

LEN = 256
MAX = 3.4028234663852886e38
DENORMAL = 2.0**-149


def f32(x):
    """The nearest f32, the largest finite one beyond the range."""
    return struct.unpack("<f", struct.pack("<f", max(-MAX, min(MAX, x))))[0]


def any_bits(rng):
    """A finite number of any size."""
    while True:
        (x,) = struct.unpack("<f", rng.randbytes(4))
        if math.isfinite(x):
            return x


def normals(rng, std):
    return [rng.gauss(0, std) for _ in range(LEN)]


def per_group(values, size):
    """Each value repeated `size` times, over and over."""
    return [values[i // size % len(values)] for i in range(LEN)]


def with_outlier(x, at, value):
    return [value if i in at else x for i, x in enumerate(x)]


def groups(rng):
    """Groups of 256 elements."""
    # Weights.
    yield from (normals(random.Random(seed), 0.02) for seed in WEIGHTS)
    yield normals(rng, 1.0)
    yield [rng.uniform(-1, 1) for _ in range(LEN)]
    yield [rng.uniform(0.5, 1) for _ in range(LEN)]
    yield [rng.uniform(-1, -0.5) for _ in range(LEN)]
    yield [rng.gauss(0, 0.02) / rng.random() for _ in range(LEN)]
    yield [rng.gauss(0, 1) * 10.0 ** -(i // 16) for i in range(LEN)]
    # Zeros and equal elements.
    yield [0.0] * LEN
    yield [-0.0] * LEN
    yield per_group([0.0, 0.5, -0.0, -0.5, 1e-3, -3.0, 0.25, 7.0], 32)
    yield with_outlier([0.0] * LEN, [77], -0.3)
    yield with_outlier(normals(rng, 0.01), [5, 40, 130], 9.0)
    yield with_outlier(normals(rng, 0.01), [31, 100, 200, 255], -900.0)
    # Alternating signs, ties, integers.
    yield [0.7 if i % 2 else -0.7 for i in range(LEN)]
    yield [(i % 16 - 8) / 8 for i in range(LEN)]
    yield [(i % 63 - 31) / 2 for i in range(LEN)]
    yield [rng.choice([-1, 0, 1]) * 0.37 for _ in range(LEN)]
    yield with_outlier([rng.randrange(-126, 126) + 0.5 for _ in range(LEN)], range(0, LEN, 32), 127.0)
    # The scale of IQ4_XS is 1 in each group of 32: the first has values only, each of the others one tie.
    block = with_outlier([rng.choice(VALUES) for _ in range(LEN)], range(0, LEN, 32), -127.0)
    for i, (low, high) in enumerate(zip(VALUES[8:], VALUES[9:])):
        block[32 * (i + 1) + 9] = (low + high) / 2
    yield block
    zeros = [0.0, -0.0, 1.0, -1.0], [-0.0, 0.0, -1.0, 1.0], [0.0, -0.0, 1.0], [-0.0, 0.0, -1.0]
    yield [zeros[i // 32 % 4][i % len(zeros[i // 32 % 4])] for i in range(LEN)]
    # Scales that are denormal or 0 in f16, or infinite.
    yield normals(rng, 1e-6)
    yield normals(rng, 1e-9)
    yield normals(rng, 1e-15)
    yield normals(rng, 1e6)
    yield normals(rng, 1e13)
    # Sums, ranges and inverse scales that are no finite f32.
    yield normals(rng, 1e30)
    yield [rng.choice([-MAX, MAX, 0.0, 1.0]) for _ in range(LEN)]
    yield [rng.randrange(-9, 10) * DENORMAL for _ in range(LEN)]
    yield [rng.gauss(0, 1) * 1e-39 for _ in range(LEN)]
    yield [any_bits(rng) for _ in range(LEN)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("llama_cpp", type=Path, help="folder with llama.cpp's sources")
    ggml = parser.parse_args().llama_cpp.resolve() / "ggml"
    here = Path(__file__).resolve().parent

    rng = random.Random(SEED)
    elements = [f32(x) for group in groups(rng) for x in group]
    data = struct.pack(f"<{len(elements)}f", *elements)
    out = struct.pack("<I", len(elements)) + data
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "quantize_blocks"
        include = [f"-I{ggml / 'src'}", f"-I{ggml / 'include'}"]
        source = here / "quantize_blocks.c"
        subprocess.run(["gcc", *FLAGS, *SECTIONS, *include, source, "-o", program, "-lm"], check=True)
        for kind in TYPES:
            blocks = subprocess.run([program, str(kind)], input=data, capture_output=True, check=True).stdout
            out += struct.pack("<I", kind) + blocks
    path = here / "quantize_blocks.bin"
    path.write_bytes(out)
    print(f"{path.name}: {len(out)} bytes, {len(elements)} elements")


if __name__ == "__main__":
    main()
