#!/usr/bin/env python3
"""Makes torch_rng.json: what PyTorch's generator on the CPU draws after torch.manual_seed.

The file holds scripts, each a seed and the calls that follow it in one go, so that what a call
leaves behind is seen in the next one's result. A result is its number of elements, the first
sixteen, and the SHA-256 of all, little-endian: f32 as the bits (u32), orders as u32, masks as bytes
of 0 and 1 in the order of memory.

  torch_rng.py
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

sys.dont_write_bytecode = True
from book_gpt import GPTModel  # noqa: E402

N_FIRST = 16
BOOK = {"vocab_size": 67, "n_positions": 24, "n_embd": 42, "n_head": 3, "n_layer": 2}


def drawn(array):
    flat = np.ascontiguousarray(array).ravel()
    little = flat.astype(flat.dtype.newbyteorder("<"))
    digest = hashlib.sha256(little.tobytes()).hexdigest()
    return {"n": flat.size, "first": flat[:N_FIRST].tolist(), "sha256": digest}


def f32s(tensor):
    return drawn(tensor.detach().numpy().view(np.uint32))


def order(indices):
    return drawn(np.array(indices, dtype=np.uint32))


def words(n):
    """The engine's words in full: those of i64 over its whole range, two each, the high one first."""
    low = np.iinfo(np.int64).min
    pairs = torch.empty(n // 2, dtype=torch.int64).random_(low, None).numpy().view(np.uint64)
    return drawn(np.stack([pairs >> 32, pairs & 0xFFFFFFFF], axis=1).astype(np.uint32))


def dropout(shape, rate, permute=None):
    """the mask in memory order, and the factor applied to kept elements."""
    x = torch.ones(shape)
    x = x if permute is None else x.permute(permute)
    y = nn.functional.dropout(x, rate)
    assert y.stride() == x.stride()
    y = torch.as_strided(y, (y.numel(),), (1,)).numpy()
    kept = drawn((y != 0).astype(np.uint8))
    return kept | {"factor": int(y[y != 0][:1].view(np.uint32)[0]) if (y != 0).any() else None}


def loader(n, shuffle, n_batches=None):
    """One pass over batches of 4, left after n_batches of them."""
    seen = []
    for i, batch in enumerate(DataLoader(range(n), batch_size=4, shuffle=shuffle, drop_last=shuffle)):
        if i == n_batches:
            break
        seen += batch.tolist()
    return order(seen)


def linear(n_inputs, n_outputs, bias=True):
    layer = nn.Linear(n_inputs, n_outputs, bias=bias)
    return {"weight": f32s(layer.weight), "bias": f32s(layer.bias) if bias else None}


def linear_sweep(end):
    """The last weight and the bias of a layer of each width below end: the bounds' roundings."""
    layers = [nn.Linear(n, 1) for n in range(1, end)]
    return f32s(torch.cat([torch.cat([y.weight[0, -1:], y.bias]) for y in layers]))


def book(qkv_bias):
    model = GPTModel(BOOK | {"qkv_bias": qkv_bias, "tie_word_embeddings": False})
    return {name: f32s(p) for name, p in model.named_parameters() if "norm" not in name}


CALLS = {
    "words": words,
    "random": lambda: {"value": torch.empty((), dtype=torch.int64).random_().item()},
    "uniform": lambda n, low, high: f32s(torch.empty(n).uniform_(low, high)),
    "normal": lambda n, mean, std: f32s(torch.empty(n).normal_(mean, std)),
    "randperm": lambda n: order(torch.randperm(n).numpy()),
    "dropout": dropout,
    "loader": loader,
    "linear": linear,
    "embedding": lambda v, c: f32s(nn.Embedding(v, c).weight),
    "linear_sweep": linear_sweep,
    "book": book,
}

SIZES = [1, 7, 15, 16, 17, 1000, 768 * 3]
END = ["random"]


def scripts():
    for seed in (0, 123, 2**32 - 1, 2**32 + 123, -1):
        yield seed, [["words", 2000], END]
    yield 1, [["uniform", n, -0.036, 0.0561] for n in SIZES] + [["uniform", 100_000, 0.0, 1.0], END]
    # The interval has 3 f32: rounding reaches its end, which is replaced.
    yield 2, [["uniform", 1000, 1.0, 1.0000002384185791], ["uniform", 9, 3.0, 3.0], END]
    yield 3, [["normal", n, 0.0, 1.0] for n in SIZES] + [
        ["normal", 200_000, 0.0, 0.02],
        ["normal", 33, -1.5, 3.0],
        END,
    ]
    # An odd number of values from pairs: one is kept, over draws of other kinds and another mean.
    yield 4, [
        ["normal", 3, 0.0, 1.0],
        ["uniform", 5, 0.0, 1.0],
        ["normal", 40, 0.0, 1.0],
        END,
        ["normal", 1, 2.0, 0.02],
        ["normal", 15, 0.1, 0.3],
        ["normal", 15, 0.1, 0.3],
        END,
    ]
    yield 5, [["randperm", n] for n in (0, 1, 2, 3, 16, 1000, 70_000)] + [END]
    shapes = ([1], [7], [17], [3, 5, 7], [2, 3, 64, 64])
    masks = [["dropout", shape, rate] for shape in shapes for rate in (0.1, 0.5)]
    yield 6, [["uniform", 1, 0.0, 1.0]] + masks + [END]
    # A rate of 0 or 1 draws nothing; a permuted tensor's mask is drawn in the order of memory.
    yield 7, [
        ["dropout", [5], 0.0],
        ["dropout", [5], 1.0],
        ["dropout", [64, 48, 5], 0.3, [2, 0, 1]],
        END,
    ]
    yield 8, [
        ["loader", 36, True],
        END,
        ["loader", 36, True, 5],
        ["loader", 3, False],
        END,
        ["loader", 36, False, 1],
        ["loader", 36, True],
        END,
    ]
    yield 9, [
        ["linear", 768, 5],
        ["linear", 3, 17, False],
        ["linear", 3072, 4],
        ["linear_sweep", 1024],
        ["embedding", 3, 5],
        ["embedding", 7, 9],
        END,
    ]
    for qkv_bias in (False, True):
        yield 123, [["book", qkv_bias], END]


def main():
    torch.set_num_threads(1)
    written = []
    for seed, calls in scripts():
        torch.manual_seed(seed)
        results = [{"call": call, "drawn": CALLS[call[0]](*call[1:])} for call in calls]
        written.append({"seed": seed % 2**64, "calls": results})
    path = Path(__file__).resolve().parent / "torch_rng.json"
    rows = []
    for script in written:
        calls = ",\n    ".join(json.dumps(call) for call in script["calls"])
        rows.append(f'  {{"seed": {script["seed"]}, "calls": [\n    {calls}\n  ]}}')
    path.write_text("[\n" + ",\n".join(rows) + "\n]\n")
    print(f"{path.name}: {len(written)} scripts, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
