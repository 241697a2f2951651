#!/usr/bin/env python3
"""Makes golden/gguf/: blocks of every format that calame reads, and a small model, as llama.cpp's package gguf has them.

  blocks.safetensors   for each format: NAME.bytes, random blocks with finite scales, and NAME.values,
                       what gguf.quants.dequantize gives for them
  tiny.gguf            a GPT-2 written by gguf.GGUFWriter: matrices in several formats, the rest f32, a tied head
                       whose copy is not written, a tokenizer of two merges
  tiny.json            SHA-256 of each of its tensors as f32, little-endian, under Hugging Face's names

A second run gives the same bytes.

  gguf_blocks.py
"""

import hashlib
import json
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import save_file

SEED = 20261123
# Where the f16 scales stand in a block.
SCALES = {
    Type.Q8_0: [0],
    Type.Q4_0: [0],
    Type.Q4_1: [0, 2],
    Type.Q5_0: [0],
    Type.Q5_1: [0, 2],
    Type.IQ4_NL: [0],
    Type.Q2_K: [80, 82],
    Type.Q3_K: [108],
    Type.Q4_K: [0, 2],
    Type.Q5_K: [0, 2],
    Type.Q6_K: [208],
    Type.IQ4_XS: [0],
    Type.TQ1_0: [52],
    Type.TQ2_0: [64],
}

# In the model the widths are too small for the K types.
MATRICES = [Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0, Type.Q5_1, Type.IQ4_NL]
WIDTH, POSITIONS = 32, 4


def floats(rng, kind, n):
    """n random numbers of every size, none of them infinite or NaN, as bytes."""
    width, exponent = {Type.F32: (4, 0x7F80), Type.F16: (2, 0x7C00), Type.BF16: (2, 0x7F80)}[kind]
    data = rng.integers(0, 256, (n, width), dtype=np.uint8)
    high = data[:, -2:].reshape(-1).view("<u2")
    high[(high & exponent) == exponent] &= 0xFFFF ^ (exponent & 0x4000)
    data[:, -2:] = high.view(np.uint8).reshape(n, 2)
    return data.reshape(-1)


def blocks(rng, kind, n):
    """n blocks of random bytes with scales of a weight's size."""
    _, n_bytes = gguf.GGML_QUANT_SIZES[kind]
    data = rng.integers(0, 256, (n, n_bytes), dtype=np.uint8)
    for at in SCALES[kind]:
        scales = rng.uniform(-0.02, 0.02, n).astype("<f2")
        data[:, at : at + 2] = scales.view(np.uint8).reshape(n, 2)
    return data.reshape(-1)


def all_blocks():
    rng = np.random.default_rng(SEED)
    tensors = {}
    for kind in [Type.F32, Type.F16, Type.BF16, *SCALES]:
        if kind in SCALES:
            data = blocks(rng, kind, 512 // gguf.GGML_QUANT_SIZES[kind][0])
        else:
            data = floats(rng, kind, 64)
        values = gguf.quants.dequantize(data.reshape(1, -1), kind).reshape(-1)
        assert np.isfinite(values).all(), kind
        tensors[f"{kind.name}.bytes"] = data
        tensors[f"{kind.name}.values"] = values
    return tensors


def tokenizer():
    """All bytes, two merges, one special token; GPT-2's spelling of bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    spelled = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]
    return [*spelled, "th", "the", "<|endoftext|>"], ["t h", "th e"]


def parameters(n_tokens):
    """GGUF's name, Hugging Face's and the shape of each parameter of one block with its surroundings."""
    yield "token_embd.weight", "wte.weight", (n_tokens, WIDTH)
    yield "position_embd.weight", "wpe.weight", (POSITIONS, WIDTH)
    for ours, theirs, rows, cols in [
        ("attn_qkv", "attn.c_attn", 3, 1),
        ("attn_output", "attn.c_proj", 1, 1),
        ("ffn_up", "mlp.c_fc", 4, 1),
        ("ffn_down", "mlp.c_proj", 1, 4),
    ]:
        yield f"blk.0.{ours}.weight", f"h.0.{theirs}.weight", (rows * WIDTH, cols * WIDTH)
        yield f"blk.0.{ours}.bias", f"h.0.{theirs}.bias", (rows * WIDTH,)
    for ours, theirs in [("blk.0.attn_norm", "h.0.ln_1"), ("blk.0.ffn_norm", "h.0.ln_2"), ("output_norm", "ln_f")]:
        for part in ["weight", "bias"]:
            yield f"{ours}.{part}", f"{theirs}.{part}", (WIDTH,)


def model(folder):
    rng = np.random.default_rng(SEED)
    tokens, merges = tokenizer()
    writer = gguf.GGUFWriter(folder / "tiny.gguf", "gpt2")
    writer.add_name("tiny")
    writer.add_block_count(1)
    writer.add_context_length(POSITIONS)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(4 * WIDTH)
    writer.add_head_count(2)
    writer.add_layer_norm_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * (len(tokens) - 1) + [gguf.TokenType.CONTROL])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(len(tokens) - 1)
    writer.add_eos_token_id(len(tokens) - 1)
    truth = {}
    kinds = iter(MATRICES)
    for name, key, shape in parameters(len(tokens)):
        if len(shape) == 1:
            values = rng.normal(0, 0.1, shape).astype(np.float32)
            writer.add_tensor(name, values)
        else:
            kind = next(kinds)
            if kind in SCALES:
                data = blocks(rng, kind, np.prod(shape) // gguf.GGML_QUANT_SIZES[kind][0]).reshape(shape[0], -1)
            else:
                data = gguf.quants.quantize(rng.normal(0, 0.1, shape).astype(np.float32), kind)
            writer.add_tensor(name, data, raw_dtype=kind)
            values = gguf.quants.dequantize(data, kind)
        truth[key] = hashlib.sha256(values.astype("<f4").tobytes()).hexdigest()
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return truth


def main():
    folder = Path(__file__).resolve().parent / "gguf"
    folder.mkdir(exist_ok=True)
    save_file(all_blocks(), folder / "blocks.safetensors")
    (folder / "tiny.json").write_text(json.dumps(model(folder), indent=1) + "\n")
    for path in sorted(folder.iterdir()):
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
