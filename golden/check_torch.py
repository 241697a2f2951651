#!/usr/bin/env python3
"""Checks a file of calame's for PyTorch: torch.load, the book's GPTModel, logits.

Loads MODEL (`calame export … --to pt`) by torch.load(weights_only=True), with and without a memory
map, and by the book's GPTModel (book_gpt.py) with load_state_dict(strict=True); the model's shape is
taken from the entry calame.json, which PyTorch itself passes over. Computes the logits [T, V] of
the ids in f32; with --logits, compares them with the tensor `logits` of that safetensors file and
fails above 1e-3 absolute. With --generated, its greedy continuation of the ids must be calame's own.

  calame logits runs/story --ids 15496,11,466 --out logits.safetensors
  calame generate --model runs/story --context "Hello, do" --tokens 40 --json > generated.json
  check_torch.py gpt-model.pt --ids 15496,11,466 --logits logits.safetensors --generated generated.json

Exit code 0: all checks passed. 1: one failed. 2: wrong usage.
"""

import argparse
import json
import sys
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
from book_gpt import GPTModel  # noqa: E402
from generated import check_generated  # noqa: E402

TOLERANCE = 1e-3


class Failed(Exception):
    """A check failed; the message says what was expected and what was found."""


def read_record(path):
    with zipfile.ZipFile(path) as archive:
        # Compares every entry with its checksum.
        damaged = archive.testzip()
        if damaged:
            raise Failed(f"{path}: expected sound entries, found {damaged} damaged")
        for entry in archive.infolist():
            archive.fp.seek(entry.header_offset)
            header = archive.fp.read(30)
            sizes = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
            if (entry.header_offset + 30 + sizes) % 64:
                raise Failed(f"{path}: {entry.filename} does not begin at a multiple of 64")
        (folder,) = {name.split("/")[0] for name in archive.namelist()}
        return json.loads(archive.read(f"{folder}/calame.json"))


def load_model(path, config):
    state = torch.load(path, weights_only=True)
    mapped = torch.load(path, weights_only=True, mmap=True)
    if list(state) != list(mapped) or any(not torch.equal(state[k], mapped[k]) for k in state):
        raise Failed(f"{path}: expected the same tensors with mmap=True, found others")
    tied = state["out_head.weight"].data_ptr() == state["tok_emb.weight"].data_ptr()
    print(f"{len(state)} tensors, head {'tied' if tied else 'not tied'}, calame.json: {config}")
    if tied != config["tied_head"]:
        raise Failed(f"{path}: tied_head is {config['tied_head']}, the storages say {tied}")
    # The book's class has a head of its own always; a tied one is loaded as a copy.
    model = GPTModel({**config, "tie_word_embeddings": False})
    fresh = [block.att.mask.clone() for block in model.trf_blocks]
    model.load_state_dict(state, strict=True)
    if any(not torch.equal(block.att.mask, mask) for block, mask in zip(model.trf_blocks, fresh)):
        raise Failed(f"{path}: expected the book's causal masks, found others")
    return model.eval()


def compare(logits, path):
    theirs = load_file(path)["logits"]
    if theirs.shape != logits.shape:
        raise Failed(f"{path}: expected `logits` of {list(logits.shape)}, found {list(theirs.shape)}")
    gap = (theirs.double() - logits.double()).abs().max().item()
    print(f"difference: max |a - b| = {gap:.2e}, allowed {TOLERANCE:.0e}")
    if not gap <= TOLERANCE:
        raise Failed(f"{path}: logits differ by {gap:.2e}, allowed {TOLERANCE:.0e}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("--ids", default="15496,11,466", help="token ids, comma between them")
    parser.add_argument("--logits", type=Path, metavar="FILE", help="what `calame logits --out` wrote")
    parser.add_argument("--generated", type=Path, metavar="FILE", help="what `calame generate --json` printed")
    args = parser.parse_args()
    try:
        model = load_model(args.model, read_record(args.model)["config"])
        ids = torch.tensor([[int(part) for part in args.ids.split(",")]])
        with torch.no_grad():
            logits = model(ids)[0]
        print(f"logits: {list(logits.shape)}, argmax at each position {logits.argmax(-1).tolist()}")
        if args.logits:
            compare(logits, args.logits)
        if args.generated:
            difference = check_generated(args.generated, ids[0].tolist(), model)
            if difference:
                raise Failed(difference)
    except Failed as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    print("ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
