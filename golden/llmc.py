#!/usr/bin/env python3
"""Writes a GPT-2 as llm.c's checkpoints, in f32 and in bf16.

Reads MODEL_DIR (config.json and model.safetensors in Hugging Face's layout) and writes OUT.bin
(version 3, f32) and OUT_bf16.bin (version 5) by the layout of karpathy/llm.c, train_gpt2.py
(`write_model`, `write_tensors`): 256 int32, then the parameters, each of the blocks' for all blocks
in turn, linear weights as [out, in], the token embedding padded with zeros to a multiple of 128 rows.

  llmc.py golden/hf-tiny-gpt2 golden/llmc/tiny
"""

import argparse
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

MAGIC = 20240326
VERSIONS = {"": 3, "_bf16": 5}
PADDED_TO = 128
# Hugging Face's Conv1D stores [in, out].
CONV1D = {"attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"}
BLOCK = [
    f"{layer}.{kind}"
    for layer in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
    for kind in ("weight", "bias")
]


def bf16(x):
    """f32 to the bits of the nearest bf16, ties to even; the figures here are finite."""
    bits = x.astype("<f4").view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def parameters(tensors, config):
    v, c = config["vocab_size"], config["n_embd"]
    padded = -(-v // PADDED_TO) * PADDED_TO
    yield np.concatenate([tensors["wte.weight"], np.zeros((padded - v, c), np.float32)])
    yield tensors["wpe.weight"]
    for path in BLOCK:
        for i in range(config["n_layer"]):
            tensor = tensors[f"h.{i}.{path}"]
            yield tensor.T if path in CONV1D else tensor
    yield tensors["ln_f.weight"]
    yield tensors["ln_f.bias"]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model_dir", type=Path, metavar="MODEL_DIR")
    parser.add_argument("out", type=Path, metavar="OUT", help="path of the files, without their ending")
    args = parser.parse_args()
    config = json.loads((args.model_dir / "config.json").read_text())
    stored = load_file(args.model_dir / "model.safetensors")
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in stored.items()}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for ending, version in VERSIONS.items():
        header = np.zeros(256, "<i4")
        sizes = [config[key] for key in ("n_positions", "vocab_size", "n_layer", "n_head", "n_embd")]
        padded = -(-config["vocab_size"] // PADDED_TO) * PADDED_TO
        header[:8] = [MAGIC, version, *sizes, padded]
        with open(f"{args.out}{ending}.bin", "wb") as file:
            file.write(header.tobytes())
            for tensor in parameters(tensors, config):
                numbers = bf16(tensor) if version == 5 else np.ascontiguousarray(tensor, "<f4")
                file.write(np.ascontiguousarray(numbers).tobytes())


if __name__ == "__main__":
    main()
