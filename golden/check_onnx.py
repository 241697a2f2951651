#!/usr/bin/env python3
"""Checks an ONNX export of calame's by onnxruntime.

ONNX_DIR has model.onnx and model.onnx.data. The file passes onnx.checker (shapes inferred
strictly), then the graph is run on a prompt: at once, token by token over its cache, in two
pieces, and in a batch of two with padding on the left. All must agree, with each other within
1e-4 and with --logits within 1e-3. Then a greedy continuation over the cache must be the one
without a cache and, with --generated, calame's own.

  calame export runs/story --to onnx --out story-onnx
  calame logits runs/story --ids 15496,11,466 --out logits.safetensors
  calame generate --model runs/story --context "Hello, do" --tokens 40 --json > generated.json
  check_onnx.py story-onnx --prompt-ids 15496,11,466 --logits logits.safetensors \\
      --generated generated.json

Needs onnx, onnxruntime, numpy and safetensors.
Exit code 0: all checks passed. 1: one failed. 2: wrong usage.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

TOLERANCE = 1e-3
# Between runs of the same weights by the same runtime, which cuts its sums as the shapes suggest.
OWN_TOLERANCE = 1e-4


class Failed(Exception):
    """A check failed; the message says what was expected and what was found."""


class Model:
    """The graph in onnxruntime, and the sizes of its cache."""

    def __init__(self, path):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.outputs = [output.name for output in self.session.get_outputs()]
        shapes = {value.name: value.shape for value in self.session.get_inputs()}
        self.cache_names = [name for name in shapes if name.startswith("past_key_values.")]
        first = shapes.get("past_key_values.0.key")
        expected = {"input_ids", "attention_mask", "position_ids", *self.cache_names}
        if first is None or set(shapes) != expected:
            raise Failed(f"{path}: expected the inputs of a decoder with a cache, found {sorted(shapes)}")
        self.n_head, self.head_size = first[1], first[3]
        self.vocab = self.session.get_outputs()[0].shape[2]
        metadata = self.session.get_modelmeta()
        print(f"metadata: {metadata.producer_name}, {dict(sorted(metadata.custom_metadata_map.items()))}")

    def empty_cache(self, batch=1):
        empty = np.zeros((batch, self.n_head, 0, self.head_size), np.float32)
        return {name: empty for name in self.cache_names}

    def run(self, ids, cache, mask=None):
        """Logits [B, T, V] of new tokens [B, T] after what is cached, and the longer cache."""
        ids = np.asarray(ids, np.int64)
        n_past = cache["past_key_values.0.key"].shape[2]
        if mask is None:
            mask = np.ones((ids.shape[0], n_past + ids.shape[1]), np.int64)
        # A token's position is the number of tokens before it that are no padding.
        positions = np.maximum(mask.cumsum(axis=1) - 1, 0)[:, n_past:]
        feed = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, **cache}
        results = dict(zip(self.outputs, self.session.run(None, feed)))
        logits = results.pop("logits")
        shape = [ids.shape[0], ids.shape[1], self.vocab]
        if list(logits.shape) != shape or not np.isfinite(logits).all():
            raise Failed(f"logits: expected finite numbers {shape}, found {list(logits.shape)}")
        return logits, {name.replace("present.", "past_key_values."): x for name, x in results.items()}


def check_file(path):
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise Failed(f"{path}: expected a valid model, found: {error}") from error
    model = onnx.load(path, load_external_data=False)
    opset = [f"{entry.domain or 'ai.onnx'} {entry.version}" for entry in model.opset_import]
    n_weights = len(model.graph.initializer)
    print(f"checker: valid, {opset}, {len(model.graph.node)} nodes, {n_weights} initializers")


def compare(what, a, b, tolerance):
    if a.shape != b.shape:
        raise Failed(f"{what}: expected {list(b.shape)}, found {list(a.shape)}")
    gap = float(np.abs(a.astype(np.float64) - b).max())
    print(f"{what}: max |a - b| = {gap:.2e}, allowed {tolerance:.0e}")
    if not gap <= tolerance:
        raise Failed(f"{what}: differs by {gap:.2e}, allowed {tolerance:.0e}")


def in_pieces(model, ids, sizes):
    """The logits of one sequence, its prompt cut."""
    cache, logits, at = model.empty_cache(), [], 0
    for size in sizes:
        piece, cache = model.run([ids[at : at + size]], cache)
        logits.append(piece[0])
        at += size
    return np.concatenate(logits)


def check_padding(model, ids):
    """Two sequences of different lengths, the shorter one padded on the left, then one token more for each."""
    short = ids[len(ids) // 2 :]
    pad = len(ids) - len(short)
    mask = np.ones((2, len(ids)), np.int64)
    mask[1, :pad] = 0
    both, cache = model.run([ids, [0] * pad + short], model.empty_cache(2), mask)
    mask = np.concatenate([mask, np.ones((2, 1), np.int64)], axis=1)
    more, _ = model.run([[ids[0]], [ids[0]]], cache, mask)
    for row, tokens in enumerate([ids, short]):
        alone, _ = model.run([tokens + [ids[0]]], model.empty_cache())
        found = np.concatenate([both[row, len(ids) - len(tokens) :], more[row]])
        compare(f"batch of two, sequence {row}, {[0, pad][row]} padded", found, alone[0], OWN_TOLERANCE)


def greedy(model, ids, n_tokens, has_cache):
    """The likeliest tokens after a prompt, and the smallest distance to the second likeliest."""
    tokens, cache, closest = list(ids), model.empty_cache(), np.inf
    new = tokens
    for _ in range(n_tokens):
        logits, longer = model.run([new], cache)
        second, first = np.sort(logits[0, -1])[-2:]
        closest = min(closest, first - second)
        tokens.append(int(logits[0, -1].argmax()))
        cache, new = (longer, tokens[-1:]) if has_cache else (cache, tokens)
    return tokens[len(ids) :], closest


def check_generated(path, found):
    expected = json.loads(path.read_text())["tokens"][: len(found)]
    if len(expected) < len(found):
        found = found[: len(expected)]
    if found != expected:
        raise Failed(f"{path}: expected {expected}, found {found}")
    print(f"calame's continuation: the same {len(expected)} tokens")


def check(args):
    from safetensors.numpy import load_file

    path = args.onnx_dir / "model.onnx"
    check_file(path)
    model = Model(path)
    ids = args.prompt_ids
    outside = [i for i in ids if not 0 <= i < model.vocab]
    if outside:
        raise Failed(f"--prompt-ids: expected ids from 0 to {model.vocab - 1}, found {outside}")
    logits = in_pieces(model, ids, [len(ids)])
    print(f"logits: {list(logits.shape)} for ids {ids}, argmax at each position {logits.argmax(-1).tolist()}")
    if args.logits is not None:
        compare("calame's logits", logits, load_file(args.logits)["logits"], TOLERANCE)
    compare("token by token", in_pieces(model, ids, [1] * len(ids)), logits, OWN_TOLERANCE)
    if len(ids) > 1:
        half = len(ids) // 2
        compare("in two pieces", in_pieces(model, ids, [half, len(ids) - half]), logits, OWN_TOLERANCE)
        check_padding(model, ids)
    found, closest = greedy(model, ids, args.tokens, has_cache=True)
    print(f"greedy: {found}, the second likeliest at least {closest:.2e} below")
    without, _ = greedy(model, ids, args.tokens, has_cache=False)
    if found != without:
        raise Failed(f"greedy without the cache: expected {found}, found {without}")
    if args.generated is not None:
        check_generated(args.generated, found)


def parse_ids(text):
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected ids as 15496,11,466, found {text!r}") from None


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("onnx_dir", type=Path, metavar="ONNX_DIR", help="an export's folder")
    parser.add_argument(
        "--prompt-ids",
        type=parse_ids,
        default=[15496, 11, 466],
        metavar="IDS",
        help="token ids, comma between them (15496,11,466: `Hello, do` in GPT-2's vocabulary)",
    )
    parser.add_argument("--logits", type=Path, metavar="FILE", help="safetensors with `logits` [T, V]")
    parser.add_argument("--tokens", type=int, default=40, metavar="N", help="length of the continuation (40)")
    parser.add_argument("--generated", type=Path, metavar="FILE", help="what `calame generate --json` printed")
    args = parser.parse_args()
    try:
        check(args)
    except (Failed, OSError) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    print("passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
