#!/usr/bin/env python3
"""Makes golden/family/: a tiny GPT-2 for each setting of transformers' GPT2Config that calame computes with.

Each folder holds what save_pretrained writes, and what PyTorch computes:

  config.json, model.safetensors   the model
  results.safetensors              tokens i32 [B, T + 1]; logits [B, T, V] and loss [1] of them; grad.NAME for every
                                   parameter by its Hugging Face name, linear weights as [out, in]

  no-bias/      a model without any bias: its weights alone, as nanoGPT's bias=False computes
  no-bias/ckpt.pt   the same as nanoGPT's train.py writes it, compiled, under model_args

The models run in f32 on one thread; each is also run in f64 from the same weights, and nothing is written where the two
differ by more than make.py allows.

  family.py
"""

import json
import sys
from pathlib import Path

sys.dont_write_bytecode = True
import make  # offline: it sets HF_HUB_OFFLINE before transformers is imported

import torch
from safetensors.torch import load_file, save, save_file
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.utils import logging

SEED = 20261127
SHAPE = {"vocab_size": 19, "n_positions": 10, "n_embd": 12, "n_head": 3, "n_layer": 3}
BATCH, POSITIONS = 2, 9
CASES = {
    "gelu": {"activation_function": "gelu"},
    "gelu-fast": {"activation_function": "gelu_fast"},
    "gelu-pytorch-tanh": {"activation_function": "gelu_pytorch_tanh"},
    "relu": {"activation_function": "relu"},
    "inner": {"n_inner": 20},
    "epsilon": {"layer_norm_epsilon": 1e-2},
    "unscaled": {"scale_attn_weights": False},
    "by-layer": {"scale_attn_by_inverse_layer_idx": True},
    "untied": {"tie_word_embeddings": False},
    "no-bias": {},
    "everything": {
        "activation_function": "gelu",
        "n_inner": 31,
        "layer_norm_epsilon": 1e-3,
        "scale_attn_weights": False,
        "scale_attn_by_inverse_layer_idx": True,
        "tie_word_embeddings": False,
    },
}


def build(settings):
    end = SHAPE["vocab_size"] - 1
    dropouts = {"embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0}
    config = GPT2Config(
        **SHAPE, **dropouts, **settings, bos_token_id=end, eos_token_id=end, attn_implementation="eager"
    )
    return GPT2LMHeadModel(config).eval()


def is_bias(name):
    return name.endswith(".bias")


def run(model, tokens, without_biases):
    """Logits, loss and gradients in the model's own precision."""
    logits, loss = make.logits_and_loss(model, tokens)
    loss.backward()
    gradients = make.gpt2_to_hf_names({name: p.grad for name, p in model.named_parameters()})
    out = {f"grad.{name}": g for name, g in gradients.items() if not (without_biases and is_bias(name))}
    return out | {"logits": logits.detach(), "loss": loss.detach().reshape(1)}


def check(case, f32, f64):
    """Raises if the f32 results may be further from the truth than the tests allow calame to be from them."""
    for name, tensor in f32.items():
        gap = (tensor.double() - f64[name]).abs().max().item()
        if name.startswith("grad."):
            # The gradient of the keys' bias is zero but for rounding.
            gap /= max(f64[name].abs().max().item(), 1e-6)
        allowed = make.ALLOWED[name.split(".")[0]]
        if not gap <= allowed or not tensor.isfinite().all():
            raise make.Wrong(f"{case}: {name} differs from f64 by {gap:.1e}, allowed {allowed:.0e}")


def write_nanogpt(path, tensors):
    """What nanoGPT's train.py saves of a compiled model without biases."""
    state = {f"_orig_mod.transformer.{name}": tensor for name, tensor in tensors.items()}
    state["_orig_mod.lm_head.weight"] = tensors["wte.weight"]
    args = {key: SHAPE[key] for key in ("n_layer", "n_head", "n_embd", "vocab_size")}
    args |= {"block_size": SHAPE["n_positions"], "bias": False, "dropout": 0.0}
    torch.save({"model": state, "model_args": args, "iter_num": 250}, path)


def make_case(case, number, out):
    without_biases = case == "no-bias"
    model = build(CASES[case])
    make.initialise(model, SEED + number)
    if without_biases:
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.mul_(0.0 if is_bias(name) else 1.0)
    gen = torch.Generator().manual_seed(SEED + 100 + number)
    tokens = torch.randint(0, SHAPE["vocab_size"], (BATCH, POSITIONS + 1), generator=gen, dtype=torch.int32)
    twin = build(CASES[case])
    twin.load_state_dict(model.state_dict())
    f32, f64 = run(model, tokens, without_biases), run(twin.double(), tokens, without_biases)
    check(case, f32, f64)
    folder = out / case
    make.save_hf(model, folder)
    if without_biases:
        stored = {k: v for k, v in load_file(folder / "model.safetensors").items() if not is_bias(k)}
        save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
        parameters = make.gpt2_to_hf_names({k: v.detach() for k, v in model.named_parameters() if not is_bias(k)})
        write_nanogpt(folder / "ckpt.pt", {k: v.contiguous() for k, v in parameters.items()})
    results = {name: tensor.contiguous() for name, tensor in f32.items()}
    (folder / "results.safetensors").write_bytes(save(results | {"tokens": tokens}))
    settings = json.dumps(CASES[case])
    print(f"{case}: {settings}, loss {f32['loss'].item():.4f}")


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    logging.disable_progress_bar()
    out = Path(__file__).resolve().parent / "family"
    try:
        for number, case in enumerate(CASES):
            make_case(case, number, out)
    except (make.Wrong, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
