#!/usr/bin/env python3
"""Beam searches of hf-tiny-gpt2, by transformers: beams.py writes beams.json.

The model computes in f64. A case whose order depends on less than 1e-5 of a score is left out.
"""
import json
from pathlib import Path

import torch
from transformers import GPT2LMHeadModel

HERE = Path(__file__).parent
PROMPTS = [[3, 14, 15, 9, 26], [66]]
NEUTRAL = {"length_penalty": 1.0, "early_stopping": False, "repetition_penalty": 1.0, "min_tokens": 0, "ends": []}


def cases():
    ends = [[], [63], [50, 29, 64, 3]]
    for n_beams in (1, 2, 3, 5):
        for penalty in (-1.0, 0.0, 1.0, 2.0):
            for early in (False, True):
                for of in ends:
                    yield {"n_beams": n_beams, "length_penalty": penalty, "early_stopping": early, "ends": of}
    yield {"n_beams": 4, "repetition_penalty": 1.5}
    yield {"n_beams": 4, "repetition_penalty": 1.5, "ends": ends[2]}
    yield {"n_beams": 4, "min_tokens": 6, "ends": ends[2]}
    yield {"n_beams": 4, "bias": {"20": 3.0, "22": float("-inf")}, "ends": ends[2]}


def search(model, prompt, max_tokens, case):
    settings = {**NEUTRAL, **case}
    bias = {(int(token),): value for token, value in settings.get("bias", {}).items()}
    found = model.generate(
        torch.tensor([prompt]),
        do_sample=False,
        num_beams=settings["n_beams"],
        num_return_sequences=settings["n_beams"],
        max_new_tokens=max_tokens,
        min_new_tokens=settings["min_tokens"] or None,
        length_penalty=settings["length_penalty"],
        early_stopping=settings["early_stopping"],
        repetition_penalty=settings["repetition_penalty"],
        sequence_bias=bias or None,
        eos_token_id=settings["ends"] or None,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_scores=True,
    )
    lens = (found.beam_indices != -1).sum(dim=1).tolist()
    new = [row[len(prompt) : len(prompt) + n].tolist() for row, n in zip(found.sequences, lens)]
    return new, found.sequences_scores.tolist()


def main():
    model = GPT2LMHeadModel.from_pretrained(HERE / "hf-tiny-gpt2").double().eval()
    model.generation_config.eos_token_id = None
    model.generation_config.bos_token_id = None
    with torch.no_grad():
        # Weights of 0.02 make every token nearly as likely as any other.
        model.transformer.wte.weight.mul_(3.0)
    written, n_close = [], 0
    for prompt in PROMPTS:
        for case in cases():
            if case["n_beams"] == 1:
                continue  # transformers searches greedily then
            tokens, scores = search(model, prompt, 12, case)
            if any(a - b < 1e-5 for a, b in zip(scores, scores[1:])):
                n_close += 1
                continue
            written.append({"prompt": prompt, "max_tokens": 12, **case, "tokens": tokens, "scores": scores})
    print(f"{len(written)} cases, {n_close} left out; {sum(len(set(map(len, c['tokens']))) > 1 for c in written)} of different lengths")
    lines = ",\n".join(json.dumps(case).replace("-Infinity", '"-inf"') for case in written)
    (HERE / "beams.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
