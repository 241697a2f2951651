#!/usr/bin/env python3
"""Makes torch_run.json: whole trainings of a tiny GPTModel of the book's, number for number.

Each run has its config, the tokens of both splits, the initial weights (of the embeddings each
one's bits; of linear layers the SHA-256 of all, little-endian), the windows of every batch, the
loss of every batch, every evaluation, and what the generator draws after all that.

  torch_run.py
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

sys.dont_write_bytecode = True
from book_gpt import GPTModel, to_hf_names  # noqa: E402
from book_train import loaders, train  # noqa: E402
from torch_rng import f32s  # noqa: E402

SHAPE = {"vocab_size": 31, "n_positions": 20, "n_embd": 12, "n_head": 3, "n_layer": 2}
BATCH, WINDOW, STRIDE = 2, 16, 8
# Six batches an epoch, one window left over; the last validation batch is not full.
N_TRAIN, N_VAL = WINDOW + 12 * STRIDE + 1, WINDOW + 4 * STRIDE + 1
N_EPOCHS, EVAL_FREQ, EVAL_ITER = 3, 4, 3
ADAMW = {"lr": 3e-3, "weight_decay": 0.1}
RUNS = [
    {"seed": 123, "drop_rate": 0.1, "qkv_bias": False},
    {"seed": 7, "drop_rate": 0.3, "qkv_bias": True},
    {"seed": 1, "drop_rate": 0.0, "qkv_bias": False},
]


class Trace:
    def __init__(self, ids):
        starts = range(0, len(ids) - WINDOW, STRIDE)
        self.window_of = {tuple(ids[start : start + WINDOW]): i for i, start in enumerate(starts)}
        assert len(self.window_of) == len(starts), "two windows are the same"
        self.order, self.losses, self.evaluations = [], [], []

    def batch(self, step, loss, inputs):
        self.order.append([self.window_of[tuple(row)] for row in inputs.tolist()])
        self.losses.append(loss)

    def evaluation(self, step, train_loss, val_loss):
        self.evaluations.append([step, train_loss, val_loss])

    def epoch_end(self, epoch):
        pass


def initial_weights(model):
    named = to_hf_names({name: p.detach() for name, p in model.named_parameters()})
    drawn = {name: tensor for name, tensor in named.items() if "ln_" not in name}

    def of(name, tensor):
        if name in ("wte.weight", "wpe.weight"):
            return tensor.numpy().view(np.uint32).ravel().tolist()
        return f32s(tensor)["sha256"]

    return {name: of(name, tensor) for name, tensor in drawn.items()}


def run(settings):
    tokens = np.random.default_rng(settings["seed"]).integers(0, SHAPE["vocab_size"], N_TRAIN + N_VAL).tolist()
    ids = tokens[:N_TRAIN], tokens[N_TRAIN:]
    torch.manual_seed(settings["seed"])
    train_loader, val_loader = loaders(*ids, BATCH, WINDOW, STRIDE)
    torch.manual_seed(settings["seed"])
    model = GPTModel(SHAPE | settings | {"tie_word_embeddings": False})
    weights = initial_weights(model)
    optimizer = torch.optim.AdamW(model.parameters(), **ADAMW)
    trace = Trace(ids[0])
    train(model, optimizer, train_loader, val_loader, N_EPOCHS, EVAL_FREQ, EVAL_ITER, trace)
    return {
        "config": SHAPE | settings,
        "train": {"batch_size": BATCH, "window": WINDOW, "stride": STRIDE, "epochs": N_EPOCHS}
        | {"eval_every": EVAL_FREQ, "eval_batches": EVAL_ITER}
        | ADAMW,
        "train_ids": ids[0],
        "val_ids": ids[1],
        "weights": weights,
        "order": trace.order,
        "losses": trace.losses,
        "evaluations": trace.evaluations,
        "next": torch.empty((), dtype=torch.int64).random_().item(),
    }


def main():
    torch.set_num_threads(1)
    path = Path(__file__).resolve().parent / "torch_run.json"
    runs = []
    for settings in RUNS:
        fields = ",\n    ".join(f'"{key}": {json.dumps(value)}' for key, value in run(settings).items())
        runs.append(f"  {{\n    {fields}\n  }}")
    path.write_text("[\n" + ",\n".join(runs) + "\n]\n")
    print(f"{path.name}: {len(runs)} runs, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
