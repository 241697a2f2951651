"""A greedy continuation in PyTorch, beside the one that `calame generate --json` printed."""

import json

import torch


def check_generated(path, ids, logits_of):
    """None if logits_of (ids [1, T] to logits [1, T, V]) continues ids as the file says, else what differs."""
    expected = json.loads(path.read_text())["tokens"]
    tokens, closest = list(ids), float("inf")
    with torch.no_grad():
        for _ in expected:
            last = logits_of(torch.tensor([tokens]))[0, -1]
            first, second = last.topk(2).values.tolist()
            closest = min(closest, first - second)
            tokens.append(int(last.argmax()))
    found = tokens[len(ids) :]
    if found != expected:
        return f"{path}: expected {expected}, found {found}"
    print(f"greedy: the same {len(expected)} tokens, the second likeliest at least {closest:.2e} below")
    return None
