#!/usr/bin/env python3
"""Makes golden/torch/: files as torch.save writes them, and their contents, for calame's tests.

  NAME.pt            one saved object each: both layouts, wrapped and not, tied, transposed, in every float format
  NAME.safetensors   the model's tensors of NAME.pt and legacy-NAME.pt as f32, row-major; whole numbers
                     and masks of bools left out
  hostile.pt         an object that would run a function when Python loads it

A second run gives the same bytes but for the legacy files: they name and sort storages by their addresses.

  torch_files.py
"""

import os
import sys
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import save_file

SEED = 20261123
VOCABULARY, POSITIONS, WIDTH = 7, 5, 4


def book(masks):
    """A state_dict of one block, named as the book names it."""
    generator = torch.Generator().manual_seed(SEED)
    block = "trf_blocks.0."
    shapes = {
        "tok_emb.weight": (VOCABULARY, WIDTH),
        "pos_emb.weight": (POSITIONS, WIDTH),
        block + "att.W_query.weight": (WIDTH, WIDTH),
        block + "ff.layers.0.weight": (4 * WIDTH, WIDTH),
        block + "ff.layers.0.bias": (4 * WIDTH,),
        block + "norm1.scale": (WIDTH,),
        "out_head.weight": (VOCABULARY, WIDTH),
    }
    state = OrderedDict((name, torch.randn(shape, generator=generator)) for name, shape in shapes.items())
    if masks:
        state[block + "att.mask"] = torch.triu(torch.ones(POSITIONS, POSITIONS), diagonal=1)
        state[block + "att.keep"] = torch.ones(POSITIONS, POSITIONS).tril().bool()
        state["n_batches_tracked"] = torch.tensor(40)
    return state


def trained():
    """A module and its optimizer after a step."""
    torch.manual_seed(SEED)
    module = torch.nn.Sequential(torch.nn.Linear(WIDTH, 3), torch.nn.LayerNorm(3))
    optimizer = torch.optim.AdamW(module.parameters(), lr=4e-4, weight_decay=0.1)
    module(torch.ones(2, WIDTH)).pow(2).sum().backward()
    optimizer.step()
    return module, optimizer


def nanogpt():
    """As nanoGPT's train.py writes ckpt.pt, from a compiled model."""
    module, optimizer = trained()
    shape = {"n_layer": 1, "n_head": 2, "n_embd": WIDTH, "block_size": POSITIONS, "bias": False}
    return {
        "model": {"_orig_mod.transformer." + name: tensor for name, tensor in module.state_dict().items()},
        "optimizer": optimizer.state_dict(),
        "model_args": shape | {"vocab_size": None, "dropout": 0.0},
        "iter_num": 250,
        "best_val_loss": torch.tensor(1.5),
        "config": {"dataset": "shakespeare_char", "learning_rate": 1e-3, "always": True, "seen": 2**40, "far": -(2**70)},
    }


def views():
    """Tied weights, and views of one storage with strides of their own."""
    table = torch.randn(VOCABULARY, WIDTH, generator=torch.Generator().manual_seed(SEED))
    cube = torch.arange(60, dtype=torch.float64).reshape(3, 4, 5) / 8
    return {
        "wte.weight": table,
        "lm_head.weight": table,
        "transposed": table.t(),
        "rows": table[2:5],
        "columns": table[:, 1:3],
        "every_other": table[::2, ::3],
        "permuted": cube.permute(2, 0, 1),
        "slice": cube[1:, 2],
        "parameter": torch.nn.Parameter(table[1].clone()),
        "scalar": torch.tensor(-2.5),
        "empty": torch.zeros(0, 3),
        "module.odd \u00e9\u58a8": torch.ones(1, 1, 2),
    }


def formats():
    """Edges of each float format."""
    edges = [0.0, -0.0, 1.0, -1.5, 65504.0, 6.1e-05, 5.96e-08, 1.0e-06, -3.3e-07, 1 / 3, float("inf"), float("-inf")]
    numbers = torch.tensor(edges, dtype=torch.float64)
    return {str(dtype): numbers.to(dtype) for dtype in [torch.float16, torch.bfloat16, torch.float32, torch.float64]}


class Command:
    """What a hostile file holds: a call."""

    def __reduce__(self):
        return os.system, ("echo this must never be seen",)


def main():
    folder = Path(__file__).parent / "torch"
    folder.mkdir(exist_ok=True)
    module, optimizer = trained()
    wrapped = {"epoch": 3, "optimizer_state_dict": optimizer.state_dict(), "model_state_dict": module.state_dict()}
    files = {
        "book": (book(masks=False), book(masks=False), {}),
        "book-masks": (book(masks=True), book(masks=True), {}),
        "legacy-book-masks": (book(masks=True), book(masks=True), {"_use_new_zipfile_serialization": False}),
        "legacy-views": (views(), views(), {"_use_new_zipfile_serialization": False, "pickle_protocol": 4}),
        "wrapped": (wrapped, module.state_dict(), {}),
        "nanogpt": (nanogpt(), nanogpt()["model"], {"pickle_protocol": 5}),
        "views": (views(), views(), {}),
        "formats": (formats(), formats(), {"pickle_protocol": 3}),
    }
    for name, (saved, tensors, options) in files.items():
        path = folder / f"{name}.pt"
        torch.save(saved, path, **options)
        # PyTorch's own restricted reader knows protocols 2 and 3 only.
        loaded = torch.load(path, weights_only=options.get("pickle_protocol", 2) < 4)
        assert list(loaded) == list(saved), name
        floats = {key: tensor.detach() for key, tensor in tensors.items() if tensor.is_floating_point()}
        floats = {key: tensor.float().clone(memory_format=torch.contiguous_format) for key, tensor in floats.items()}
        truth = folder / f"{name.removeprefix('legacy-')}.safetensors"
        save_file(floats, truth)
        truth.chmod(0o644)
        print(f"{path.name}: {path.stat().st_size} bytes")
    torch.save({"wte.weight": torch.ones(2), "note": Command()}, folder / "hostile.pt")
    return 0


if __name__ == "__main__":
    sys.exit(main())
