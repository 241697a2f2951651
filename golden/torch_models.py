#!/usr/bin/env python3
"""Makes golden/models/: one small GPT-2 as other programs save it, for calame's tests.

  truth.safetensors       its tensors under calame's names, linear weights [out, in]; tied, with qkv bias
  ckpt.pt                 as nanoGPT's train.py writes it, from a compiled model
  hf/                     a Hugging Face folder with pytorch_model.bin: Conv1D weights, causal masks, no head
  sharded/                the same in two safetensors files with an index, in bf16
  book.pth                as the book's ch05 saves a model with its optimizer: a head of its own, no qkv bias

  torch_models.py
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

SEED = 20261123
V, T, C, HEADS, BLOCKS = 11, 6, 8, 2, 2
HERE = Path(__file__).parent / "models"
CONV1D = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")


def truth():
    """calame's names and layout."""
    generator = torch.Generator().manual_seed(SEED)
    shapes = {"wte.weight": (V, C), "wpe.weight": (T, C)}
    for i in range(BLOCKS):
        for name, outs, ins in (
            ("attn.c_attn", 3 * C, C), ("attn.c_proj", C, C), ("mlp.c_fc", 4 * C, C), ("mlp.c_proj", C, 4 * C)
        ):
            shapes[f"h.{i}.{name}.weight"] = (outs, ins)
            shapes[f"h.{i}.{name}.bias"] = (outs,)
        for name in ("ln_1", "ln_2"):
            shapes[f"h.{i}.{name}.weight"] = shapes[f"h.{i}.{name}.bias"] = (C,)
    shapes["ln_f.weight"] = shapes["ln_f.bias"] = (C,)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def nanogpt(tensors):
    state = {f"_orig_mod.transformer.{name}": tensor for name, tensor in tensors.items()}
    state["_orig_mod.lm_head.weight"] = tensors["wte.weight"]
    args = {"n_layer": BLOCKS, "n_head": HEADS, "n_embd": C, "block_size": T, "bias": True, "vocab_size": V, "dropout": 0.0}
    return {"model": state, "optimizer": {}, "model_args": args, "iter_num": 7, "best_val_loss": torch.tensor(1.5), "config": {}}


def hugging_face(tensors):
    state = {}
    for name, tensor in tensors.items():
        state[f"transformer.{name}"] = tensor.t().contiguous() if name.endswith(CONV1D) else tensor
    for i in range(BLOCKS):
        state[f"transformer.h.{i}.attn.bias"] = torch.ones(T, T).tril().bool().view(1, 1, T, T)
        state[f"transformer.h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    return state


def book(tensors):
    ends = {"wte.weight": "tok_emb.weight", "wpe.weight": "pos_emb.weight", "ln_f.weight": "final_norm.scale", "ln_f.bias": "final_norm.shift"}
    inner = {
        "attn.c_proj.": "att.out_proj.", "mlp.c_fc.": "ff.layers.0.", "mlp.c_proj.": "ff.layers.2.",
        "ln_1.weight": "norm1.scale", "ln_1.bias": "norm1.shift", "ln_2.weight": "norm2.scale", "ln_2.bias": "norm2.shift",
    }
    state = {ends[name]: tensor for name, tensor in tensors.items() if name in ends}
    for name, tensor in tensors.items():
        if not name.startswith("h."):
            continue
        _, i, path = name.split(".", 2)
        block = f"trf_blocks.{i}."
        if path == "attn.c_attn.weight":
            for part, rows in zip(("W_query", "W_key", "W_value"), tensor.chunk(3)):
                state[f"{block}att.{part}.weight"] = rows.clone()
        elif path != "attn.c_attn.bias":
            ours, theirs = next(item for item in inner.items() if path.startswith(item[0]))
            state[block + theirs + path[len(ours):]] = tensor
        state[f"{block}att.mask"] = torch.triu(torch.ones(T, T), diagonal=1)
    state["out_head.weight"] = tensors["wte.weight"] + 1
    return {"model_state_dict": state, "optimizer_state_dict": {"state": {}, "param_groups": []}}


def sharded(tensors):
    """Two files and their index."""
    state = {name: tensor.bfloat16() for name, tensor in hugging_face(tensors).items() if tensor.dim() < 3 and tensor.dim() > 0}
    names = sorted(state)
    files = {name: f"model-0000{1 + (i >= len(names) // 2)}-of-00002.safetensors" for i, name in enumerate(names)}
    folder = HERE / "sharded"
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(set(files.values())):
        save_file({name: state[name] for name in names if files[name] == file}, folder / file, {"format": "pt"})
    index = {"metadata": {"total_size": sum(t.numel() * 2 for t in state.values())}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
    write_config(folder)


def write_config(folder):
    config = {
        "model_type": "gpt2", "vocab_size": V, "n_positions": T, "n_embd": C, "n_head": HEADS, "n_layer": BLOCKS,
        "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "resid_pdrop": 0.0,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def main():
    tensors = truth()
    (HERE / "hf").mkdir(parents=True, exist_ok=True)
    save_file(tensors, HERE / "truth.safetensors")
    torch.save(nanogpt(tensors), HERE / "ckpt.pt")
    torch.save(hugging_face(tensors), HERE / "hf" / "pytorch_model.bin")
    write_config(HERE / "hf")
    torch.save(book(tensors), HERE / "book.pth")
    sharded(tensors)


if __name__ == "__main__":
    main()
