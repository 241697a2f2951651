#!/usr/bin/env python3
"""Checks a saved model folder against transformers.

Loads MODEL_DIR (config.json, model.safetensors) by GPT2LMHeadModel.from_pretrained and fails
where a key of the model is missing, left over or of another shape. Where the folder has a
tokenizer.json, loads it by PreTrainedTokenizerFast, encodes a sentence and decodes it back.
Computes the logits [T, V] of the prompt in f32; with --logits, compares them with the tensor
`logits` of that safetensors file and fails above 1e-4 absolute. With --generated, the model's greedy
continuation of the prompt must be calame's own.

  check_transformers.py runs/story/model
  check_transformers.py runs/story/model --prompt-ids 15496,11,466 --logits logits.safetensors

Exit code 0: all checks passed. 1: one failed. 2: wrong usage.
"""

import argparse
import os
import sys
from pathlib import Path

from safetensors import SafetensorError

sys.path.insert(0, str(Path(__file__).parent))
from generated import check_generated  # noqa: E402

os.environ["HF_HUB_OFFLINE"] = "1"

TOLERANCE = 1e-4
SENTENCE = "Hello, do you like tea? In the sunlit terraces of someunknownPlace.\n  \u00c9t\u00e9 2026."


class Failed(Exception):
    """A check failed; the message says what was expected and what was found."""


def load_model(folder):
    import torch
    from transformers import GPT2LMHeadModel
    from transformers.utils import logging

    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise Failed(f"{folder / name}: expected a file, found none; give a saved model's folder")
    logging.disable_progress_bar()
    try:
        model, info = GPT2LMHeadModel.from_pretrained(
            folder,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are reported below with the other keys
            dtype=torch.float32,
            attn_implementation="eager",
        )
    except SafetensorError as error:
        raise Failed(f"{folder}: expected a whole model.safetensors, found: {error}") from error
    kinds = ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs")
    for what in kinds:
        print(f"{what}: {sorted(map(str, info[what])) or 'none'}")
    found = [what for what in kinds if info[what]]
    if found:
        raise Failed(f"{folder}: expected every key and no other, found {' and '.join(found)}")
    n_params = sum(p.numel() for p in model.parameters())
    tied = model.lm_head.weight is model.transformer.wte.weight
    print(f"parameters: {n_params:,}, head {'tied' if tied else 'not tied'}")
    if tied != bool(model.config.tie_word_embeddings):
        raise Failed(f"tie_word_embeddings is {model.config.tie_word_embeddings}, the head says {tied}")
    return model.eval()


def check_tokenizer(folder, vocab_size):
    from transformers import PreTrainedTokenizerFast

    path = folder / "tokenizer.json"
    if not path.is_file():
        print("tokenizer.json: not there, not checked")
        return
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path))
    ids = tokenizer.encode(SENTENCE, add_special_tokens=False)
    print(f"tokenizer.json: {len(tokenizer)} tokens\n  {SENTENCE!r}\n  {ids}")
    if len(tokenizer) > vocab_size:
        raise Failed(f"{path}: expected at most {vocab_size} tokens as the model, found {len(tokenizer)}")
    back = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    if back != SENTENCE:
        raise Failed(f"{path}: expected decode to give {SENTENCE!r} back, found {back!r}")


def compute_logits(model, ids):
    import torch

    vocab, context = model.config.vocab_size, model.config.n_positions
    outside = [i for i in ids if not 0 <= i < vocab]
    if outside:
        raise Failed(f"--prompt-ids: expected ids from 0 to {vocab - 1}, found {outside}")
    if len(ids) > context:
        raise Failed(f"--prompt-ids: expected at most {context} ids, found {len(ids)}")
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
    print(f"logits: {list(logits.shape)} for ids {ids}, argmax at each position {logits.argmax(-1).tolist()}")
    if not logits.isfinite().all():
        raise Failed("logits: expected finite numbers, found NaN or infinity")
    return logits


def compare(logits, path):
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise Failed(f"{path}: expected a safetensors file, found: {error}") from error
    if "logits" not in tensors:
        raise Failed(f"{path}: expected a tensor `logits`, found {sorted(tensors)}")
    theirs = tensors["logits"]
    if theirs.shape != logits.shape:
        raise Failed(f"{path}: expected `logits` of {list(logits.shape)}, found {list(theirs.shape)}")
    gap = (theirs.double() - logits.double()).abs().max().item()
    print(f"difference: max |a - b| = {gap:.2e}, allowed {TOLERANCE:.0e}")
    if not gap <= TOLERANCE:
        raise Failed(f"{path}: logits differ by {gap:.2e}, allowed {TOLERANCE:.0e}")


def parse_ids(text):
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected ids as 15496,11,466, found {text!r}") from None


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model_dir", type=Path, metavar="MODEL_DIR", help="a saved model's folder")
    parser.add_argument(
        "--prompt-ids",
        type=parse_ids,
        default=[15496, 11, 466],
        metavar="IDS",
        help="token ids, comma between them (15496,11,466: `Hello, do` in GPT-2's vocabulary)",
    )
    parser.add_argument("--logits", type=Path, metavar="FILE", help="safetensors with `logits` [T, V]")
    parser.add_argument("--generated", type=Path, metavar="FILE", help="what `calame generate --json` printed")
    args = parser.parse_args()
    try:
        model = load_model(args.model_dir)
        check_tokenizer(args.model_dir, model.config.vocab_size)
        logits = compute_logits(model, args.prompt_ids)
        if args.logits is not None:
            compare(logits, args.logits)
        if args.generated is not None:
            difference = check_generated(args.generated, args.prompt_ids, lambda ids: model(ids).logits)
            if difference:
                raise Failed(difference)
    except (Failed, OSError) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    print("passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
