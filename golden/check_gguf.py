#!/usr/bin/env python3
"""Checks a GGUF that calame wrote against the model folder that it was written from.

Reads GGUF by llama.cpp's package gguf and fails where a tensor is not that of MODEL_DIR
(config.json, model.safetensors) to the bit, or where tokens and merges are not those of its
tokenizer.json. With --ids, llama.cpp itself (the package xllamacpp) loads the file and goes on
from these ids, greedily; the ids that it gives must be those of --expect, which calame gave.
With --logits, llama.cpp's ten best log-probabilities after --ids must be those of the last row
of the tensor `logits` of that safetensors file, within 1e-3. A model with far larger weights than fresh ones differs by more (logits up to 29: by 2.4e-3).

  check_gguf.py runs/story/model story.gguf
  check_gguf.py runs/story/model story.gguf --ids 6109,3626 --expect 345,318,... --logits logits.safetensors

Needs gguf, numpy and safetensors; for --ids xllamacpp.
Exit code 0: all checks passed. 1: one failed. 2: wrong usage.
"""

import argparse
import codecs
import json
import sys
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader
from safetensors.numpy import load_file

TOLERANCE = 1e-3
BLOCK = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
ENDS = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "lm_head": "output"}


class Failed(Exception):
    """A check failed; the message says what was expected and what was found."""


def gguf_name(key):
    """GGUF's name of a key of model.safetensors."""
    layer, what = key.removeprefix("transformer.").rsplit(".", 1)
    if layer in ENDS:
        return f"{ENDS[layer]}.{what}"
    _, i, part = layer.split(".", 2)
    return f"blk.{i}.{BLOCK[part]}.{what}"


def check_tensors(reader, folder):
    expected = {}
    for key, tensor in load_file(folder / "model.safetensors").items():
        # Hugging Face's Conv1D has the transpose.
        conv1d = tensor.ndim == 2 and ".h." in key
        expected[gguf_name(key)] = tensor.T if conv1d else tensor
    found = {tensor.name: tensor for tensor in reader.tensors}
    if set(found) != set(expected):
        raise Failed(f"expected the tensors of the model, found others: {sorted(set(found) ^ set(expected))}")
    for name, tensor in found.items():
        if tensor.tensor_type != GGMLQuantizationType.F32:
            raise Failed(f"{name}: expected F32, found {tensor.tensor_type.name}")
        if not np.array_equal(tensor.data.view(np.uint32), np.ascontiguousarray(expected[name]).view(np.uint32)):
            raise Failed(f"{name}: expected the model's tensor to the bit, found another")
    print(f"tensors: {len(found)}, the same to the bit")


def check_tokenizer(reader, folder):
    path = folder / "tokenizer.json"
    tokens = reader.get_field("tokenizer.ggml.tokens")
    if not path.is_file() or tokens is None:
        print("tokenizer: none")
        return
    file = json.loads(path.read_text(encoding="utf-8"))
    vocab = file["model"]["vocab"] | {token["content"]: token["id"] for token in file["added_tokens"]}
    expected = sorted(vocab, key=vocab.get)
    n_rows = json.loads((folder / "config.json").read_text())["vocab_size"]
    expected += [f"[PAD{i}]" for i in range(len(expected), n_rows)]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in file["model"]["merges"]]
    for what, found, wanted in [
        ("tokens", tokens.contents(), expected),
        ("merges", reader.get_field("tokenizer.ggml.merges").contents(), merges),
    ]:
        if found != wanted:
            raise Failed(f"{what}: expected the {len(wanted)} of tokenizer.json, found {len(found)}, not all the same")
    print(f"tokenizer: {len(expected)} tokens and {len(merges)} merges, the same")


def ends_inside(token):
    """Whether the bytes of a token in GPT-2's spelling end inside a character."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    byte_of = {chr(byte): byte for byte in printable}
    byte_of |= {chr(256 + i): byte for i, byte in enumerate(b for b in range(256) if b not in printable)}
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(bytes(byte_of.get(c, 0) for c in token))
    return bool(decoder.getstate()[0])


def check_llama_cpp(path, tokens, ids, expected, logits):
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.warmup = 0, 1, False
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    answer = server.handle_completions(
        {
            "prompt": ids,
            "max_tokens": max(len(expected), 1),
            "temperature": 0,
            "logprobs": 10,
            "cache_prompt": False,
        }
    )
    if "choices" not in answer:
        raise Failed(f"{path}: expected a continuation by llama.cpp, found {str(answer)[:300]}")
    steps = answer["choices"][0]["logprobs"]["content"]
    found = [step["id"] for step in steps]
    # The server does not tell an id whose bytes end inside a character.
    expected = [i for i in expected if not ends_inside(tokens[i])]
    if expected and found != expected:
        same = next((i for i, (a, b) in enumerate(zip(found, expected)) if a != b), min(len(found), len(expected)))
        raise Failed(f"llama.cpp: expected {expected}, found {found}: they part after {same}")
    print(f"llama.cpp: {len(found)} tokens" + (", the same" if expected else f": {found}"))
    if logits is None:
        return
    last = load_file(logits)["logits"][-1].astype(np.float64)
    ours = last - np.logaddexp.reduce(last)
    best = steps[0]["top_logprobs"]
    largest = max(abs(entry["logprob"] - ours[entry["id"]]) for entry in best)
    print(f"llama.cpp: {len(best)} best log-probabilities differ by at most {largest:.1e}")
    if largest > TOLERANCE:
        raise Failed(f"llama.cpp: expected log-probabilities within {TOLERANCE}, found {largest}")


def numbers(text):
    return [int(number) for number in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--ids", type=numbers, help="a prompt's token ids, separated by commas")
    parser.add_argument("--expect", type=numbers, default=[], help="the ids with which calame goes on")
    parser.add_argument("--logits", type=Path, help="what `calame logits` writes for --ids")
    args = parser.parse_args()
    if (args.expect or args.logits) and not args.ids:
        parser.error("--expect and --logits need --ids")
    try:
        reader = GGUFReader(args.gguf)
        check_tensors(reader, args.model_dir)
        check_tokenizer(reader, args.model_dir)
        if args.ids:
            check_llama_cpp(args.gguf, reader.get_field("tokenizer.ggml.tokens").contents(), args.ids, args.expect, args.logits)
    except (Failed, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
