#!/usr/bin/env python3
"""Makes golden/odd/: one small GPT-2 as scripts really save it, with their own objects beside it and prefixes before its keys.

  dataclass.pt       the configuration as a dataclass, a numpy scalar, a torch.Size; keys with `transformer.`
  slots.pt           a dataclass with __slots__, in pickle protocol 4; keys with `module.`
  namespace.pt       argparse's Namespace, in the layout before PyTorch 1.6; keys with `module._orig_mod.transformer.`
  omegaconf.pt       OmegaConf's nodes (classes of the same shape), the model's part one level down; `_orig_mod` within the keys
  lightning.ckpt     Lightning's extras: a dict subclass, paths, callbacks that refer to each other; `model.` before the keys,
                     tensors without elements among them
  attributes.pt      parameters that carry attributes, as a custom class of parameters too
  prefix.pt          `gpt.transformer.` and nothing that states the number of heads
  logits.json        the logits of every position for the tokens of IDS, in f64: those of every file

  odd_models.py
"""

import argparse
import collections
import dataclasses
import json
import math
import pathlib
from pathlib import Path

import numpy
import torch

SEED = 20261127
V, T, C, HEADS = 5, 4, 4, 2
IDS = [1, 4, 0, 2]
OUT = Path(__file__).parent / "odd"


def weights():
    generator = torch.Generator().manual_seed(SEED)
    normal = lambda *shape: torch.randn(*shape, generator=generator) * 0.5
    w = collections.OrderedDict({"wte.weight": normal(V, C), "wpe.weight": normal(T, C)})
    for name, outs, ins in (("attn.c_attn", 3 * C, C), ("attn.c_proj", C, C), ("mlp.c_fc", 4 * C, C), ("mlp.c_proj", C, 4 * C)):
        w[f"h.0.{name}.weight"], w[f"h.0.{name}.bias"] = normal(outs, ins), normal(outs)
    for name in ("h.0.ln_1", "h.0.ln_2", "ln_f"):
        w[f"{name}.weight"], w[f"{name}.bias"] = 1 + normal(C), normal(C)
    w["lm_head.weight"] = w["wte.weight"]
    return w


def logits(w):
    F = torch.nn.functional
    w = {name: tensor.double() for name, tensor in w.items()}
    n = len(IDS)
    norm = lambda x, name: F.layer_norm(x, (C,), w[name + ".weight"], w[name + ".bias"], 1e-5)
    linear = lambda x, name: F.linear(x, w[name + ".weight"], w[name + ".bias"])
    heads = lambda x: x.view(n, HEADS, C // HEADS).transpose(0, 1)
    x = w["wte.weight"][torch.tensor(IDS)] + w["wpe.weight"][:n]
    q, k, v = (heads(part) for part in linear(norm(x, "h.0.ln_1"), "h.0.attn.c_attn").split(C, dim=-1))
    scores = (q @ k.transpose(-1, -2) / math.sqrt(C // HEADS)).masked_fill(~torch.tril(torch.ones(n, n)).bool(), -math.inf)
    x = x + linear((scores.softmax(-1) @ v).transpose(0, 1).reshape(n, C), "h.0.attn.c_proj")
    x = x + linear(F.gelu(linear(norm(x, "h.0.ln_2"), "h.0.mlp.c_fc"), approximate="tanh"), "h.0.mlp.c_proj")
    return (norm(x, "ln_f") @ w["lm_head.weight"].T).tolist()


def prefixed(w, prefix, head=None):
    """The head has its own prefix: it is not part of nanoGPT's `transformer`."""
    head = prefix if head is None else head
    return collections.OrderedDict(((head if name == "lm_head.weight" else prefix) + name, t) for name, t in w.items())


@dataclasses.dataclass
class GPTConfig:
    block_size: int = T
    vocab_size: int = V
    n_layer: int = 1
    n_head: int = HEADS
    n_embd: int = C


@dataclasses.dataclass(slots=True)
class SlotsConfig:
    num_heads: int = HEADS
    dropout: float = 0.0


class AttributeDict(dict):
    """As Lightning's hyper_parameters."""


class AnyNode:
    """As OmegaConf's values: the value, and the node that it belongs to."""

    def __init__(self, value, parent):
        self._parent, self._val = parent, value


class DictConfig:
    """As OmegaConf's dicts."""

    def __init__(self, content, parent=None):
        self._parent = parent
        node = lambda value: DictConfig(value, self) if isinstance(value, dict) else AnyNode(value, self)
        self._content = {key: node(value) for key, value in content.items()}


class Trainer:
    """An object that refers to itself by way of others."""

    def __init__(self, depth=0):
        self.callbacks = [self] if depth else [Trainer(depth + 1) for _ in range(3)]
        self.path, self.seen = pathlib.PurePosixPath("runs/a"), {1, 2}


class Weight(torch.nn.Parameter):
    """A class of parameters."""


def with_attributes(w):
    out = collections.OrderedDict()
    for i, (name, tensor) in enumerate(w.items()):
        parameter = (Weight if i % 2 else torch.nn.Parameter)(tensor)
        parameter.weight_decay = 0.1
        out[name] = parameter
    return out


def main():
    OUT.mkdir(exist_ok=True)
    w = weights()
    save = lambda name, what, **settings: torch.save(what, OUT / name, **settings)
    loss = numpy.float64(1.5)
    save("dataclass.pt", {
        "model": prefixed(w, "transformer.", ""), "config": GPTConfig(), "best_val_loss": loss, "shape": torch.Size([2, 3]),
    })
    save("slots.pt", {"model_state_dict": prefixed(w, "module."), "hparams": SlotsConfig(), "type": torch.float32}, pickle_protocol=4)
    names = argparse.Namespace(n_heads=HEADS, out=pathlib.PurePosixPath("out"))
    save("namespace.pt", {"state_dict": prefixed(w, "module._orig_mod.transformer.", "module._orig_mod."), "args": names},
         _use_new_zipfile_serialization=False)
    inside = {name.replace("h.0.", "h.0._orig_mod."): tensor for name, tensor in w.items()}
    save("omegaconf.pt", {"model": prefixed(inside, "net."), "cfg": DictConfig({"lr": 0.1, "model": {"n_head": HEADS}})})
    extras = {
        "state_dict": {**prefixed(w, "model.transformer.", "model."), "model.unused": torch.zeros(0, 3), "model.scale": torch.zeros(0)},
        "hyper_parameters": AttributeDict(n_head=HEADS, lr=1e-3),
        "callbacks": {"ModelCheckpoint{}": {"best_model_path": pathlib.PurePosixPath("a.ckpt"), "best_model_score": torch.tensor(1.5)}},
        "loops": {"fit_loop": Trainer()}, "pytorch-lightning_version": "2.5.0", "epoch": 3,
    }
    save("lightning.ckpt", extras)
    save("attributes.pt", {"model": with_attributes(w), "model_args": {"n_head": HEADS, "dropout": 0.0}})
    save("prefix.pt", prefixed(w, "gpt.transformer.", "gpt."))
    (OUT / "logits.json").write_text(json.dumps({"ids": IDS, "logits": logits(w)}) + "\n")
    for path in sorted(OUT.iterdir()):
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
