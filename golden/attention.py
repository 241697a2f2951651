#!/usr/bin/env python3
"""Attention weights of hf-tiny-gpt2 for one sequence, by transformers: attention.py writes attention.json."""
import json
from pathlib import Path

import torch
from transformers import GPT2LMHeadModel

HERE = Path(__file__).parent
TOKENS = [3, 14, 15, 9, 26, 5, 35, 8, 9, 7]


def main():
    model = GPT2LMHeadModel.from_pretrained(HERE / "hf-tiny-gpt2", attn_implementation="eager").double().eval()
    with torch.no_grad():
        attentions = model(torch.tensor([TOKENS]), output_attentions=True).attentions
    weights = [layer[0].tolist() for layer in attentions]
    rounded = [[[[round(w, 9) for w in row] for row in head] for head in layer] for layer in weights]
    (HERE / "attention.json").write_text(json.dumps({"tokens": TOKENS, "weights": rounded}) + "\n")


if __name__ == "__main__":
    main()
