#!/usr/bin/env python3
"""Makes samplers.json: the probabilities that transformers samples from, for fixed logits and settings.

The processors and their order come from `_get_logits_processor` of a GPT2LMHeadModel, as in `generate`. OpenAI's presence
and frequency penalties, which transformers lacks, are a processor passed in by the user.

Each case is also computed in f64. The script fails if the two results differ by more than 2e-7, so that no case depends
on how a boundary is rounded.

  samplers.py
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, LogitsProcessor, LogitsProcessorList

V = 48
MAX_DIFFERENCE = 2e-7
ENDS = [0, 5]


class CountPenalties(LogitsProcessor):
    """https://platform.openai.com/docs/api-reference: c[j] counts how often token j was sampled."""

    def __init__(self, presence, frequency, n_prompt):
        self.presence, self.frequency, self.n_prompt = presence, frequency, n_prompt

    def __call__(self, input_ids, scores):
        scores = scores.clone()
        for row, ids in zip(scores, input_ids[:, self.n_prompt :]):
            counts = torch.bincount(ids, minlength=row.numel()).to(row.dtype)
            row -= counts * self.frequency + (counts > 0) * self.presence
        return scores


def logit_sets():
    random = np.random.default_rng(1)
    normal = (random.standard_normal(V) * 2.5).round(3)
    flat = (random.standard_normal(V) * 0.4 - 3).round(3)
    ties = (random.standard_normal(V) * 1.5).round(0)
    return {"normal": normal, "flat": flat, "ties": ties}


def cases():
    """Settings by the names of calame; what is left out has its neutral value."""
    one_by_one = [
        {"temperature": 0.7},
        {"temperature": 2.5},
        {"top_k": 1},
        {"top_k": 7},
        {"top_p": 0.31},
        {"top_p": 0.9},
        {"min_p": 0.05},
        {"min_p": 0.5},
        {"typical_p": 0.2},
        {"typical_p": 0.9},
        {"repetition_penalty": 1.3},
        {"repetition_penalty": 0.8},
        {"presence_penalty": 0.75},
        {"frequency_penalty": 0.5},
        {"min_tokens": 6},
        {"min_tokens": 5},
        {"bias": {"3": 2.0, "9": float("-inf"), "17": -1.5}},
    ]
    combined = [
        {"temperature": 0.6, "top_k": 12, "top_p": 0.83},
        {"temperature": 1.7, "top_k": 20, "top_p": 0.95, "min_p": 0.08},
        {"temperature": 1.2, "top_p": 0.92, "typical_p": 0.7},
        {"temperature": 1.4, "top_k": 30, "top_p": 0.97, "min_p": 0.03, "typical_p": 0.85},
        {"repetition_penalty": 1.5, "presence_penalty": 0.6, "frequency_penalty": 0.3, "temperature": 0.9},
        {"bias": {"2": 4.0, "11": 3.5}, "repetition_penalty": 1.4, "presence_penalty": -0.8},
        {
            "bias": {"0": 6.0, "4": float("-inf"), "11": 2.5},
            "repetition_penalty": 1.2,
            "presence_penalty": 0.4,
            "frequency_penalty": -0.2,
            "min_tokens": 10,
            "temperature": 1.3,
            "top_k": 25,
            "top_p": 0.96,
            "min_p": 0.02,
            "typical_p": 0.93,
        },
        {"bias": {"5": 6.0}, "min_tokens": 3, "temperature": 0.8, "top_k": 9, "min_p": 0.04},
    ]
    return one_by_one + combined


def processed(model, logits, settings, prompt, generated):
    config = GenerationConfig(
        do_sample=True,
        temperature=settings.get("temperature", 1.0),
        top_k=settings.get("top_k", 0),
        top_p=settings.get("top_p", 1.0),
        min_p=settings.get("min_p"),
        typical_p=settings.get("typical_p", 1.0),
        repetition_penalty=settings.get("repetition_penalty", 1.0),
        min_new_tokens=settings.get("min_tokens"),
        eos_token_id=ENDS,
        sequence_bias={(int(token),): bias for token, bias in settings.get("bias", {}).items()} or None,
    )
    config._eos_token_tensor = torch.tensor(ENDS)
    own = CountPenalties(settings.get("presence_penalty", 0.0), settings.get("frequency_penalty", 0.0), len(prompt))
    processors = model._get_logits_processor(
        config, input_ids_seq_length=len(prompt), logits_processor=LogitsProcessorList([own]), device="cpu"
    )
    return processors(torch.tensor([prompt + generated]), logits[None])[0]


def main():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=V, n_positions=32, n_embd=4, n_layer=1, n_head=1))
    prompt, generated = [7, 2, 2, 40, 11], [11, 3, 11, 30, 7]
    sets, written, largest = logit_sets(), [], 0.0
    for name, logits in sets.items():
        for settings in cases():
            results = []
            for dtype in (torch.float32, torch.float64):
                scores = processed(model, torch.tensor(logits, dtype=dtype), settings, prompt, generated)
                results.append(torch.softmax(scores.double(), -1).numpy())
            if name == "ties" and "top_p" in settings:
                # Which of several equal logits top-p keeps is unspecified: their probabilities are compared sorted.
                results = [np.sort(p)[::-1] for p in results]
            difference = float(np.abs(results[0] - results[1]).max())
            assert difference <= MAX_DIFFERENCE, f"{name}, {settings}: f32 and f64 differ by {difference}"
            largest = max(largest, difference)
            bias = {token: str(bias) for token, bias in settings.get("bias", {}).items()}
            case = {"logits": name, "settings": {k: v for k, v in settings.items() if k != "bias"}}
            case |= {"bias": bias} if bias else {}
            case["probabilities"] = [round(float(p), 8) for p in results[1]]
            written.append(case)
    rows = ",\n".join(json.dumps(case, separators=(",", ":")) for case in written)
    head = {"prompt": prompt, "generated": generated, "ends": ENDS}
    head["logits"] = {name: logits.tolist() for name, logits in sets.items()}
    text = json.dumps(head, separators=(",", ":"))[:-1] + ',"cases":[\n' + rows + "\n]}\n"
    text = text.replace(".0,", ",").replace(".0]", "]")
    path = Path(__file__).parent / "samplers.json"
    path.write_text(text)
    print(f"{path.name}: {len(written)} cases, {len(text)} bytes; f32 and f64 differ by {largest:.1e} at most")


if __name__ == "__main__":
    sys.exit(main())
