#!/usr/bin/env python3
"""A prompt of 512 tokens by onnxruntime, on an ONNX export of calame: onnx_prompt.py MODEL.onnx THREADS [ROUNDS].

Prints tokens per second, the median of the rounds. All logits are computed: the graph has no other output.
"""

import statistics
import sys
import time

import numpy as np
import onnxruntime

N_TOKENS = 512


def value(given):
    dims = [dim if isinstance(dim, int) else None for dim in given.shape]
    if given.name == "input_ids":
        return np.random.default_rng(1).integers(0, 50257, (1, N_TOKENS))
    if "mask" in given.name:
        return np.ones((1, N_TOKENS), np.int64)
    if "position" in given.name:
        return np.arange(N_TOKENS)[None]
    # An empty cache.
    return np.zeros([1 if i == 0 else dim or 0 for i, dim in enumerate(dims)], np.float32)


def main():
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(sys.argv[2])
    model = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
    inputs = {given.name: value(given) for given in model.get_inputs()}
    seconds = []
    for _ in range(1 + int(sys.argv[3] if len(sys.argv) > 3 else 3)):
        start = time.perf_counter()
        model.run(None, inputs)
        seconds.append(time.perf_counter() - start)
    print(f"{N_TOKENS / statistics.median(seconds[1:]):.0f} tokens/s")


if __name__ == "__main__":
    main()
