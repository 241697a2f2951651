#!/usr/bin/env python3
"""Times PyTorch's training step on the CPU at the shapes of `calame bench train`, and prints one line of JSON.

The model is the book's (163M parameters: a head of its own, no bias on queries, keys and values, dropout 0.1) or, with
--preset gpt2, OpenAI's 124M. What is timed is what `calame bench train` times: forward, backward and AdamW on one batch.
By default it runs PyTorch's fastest way on a CPU, scaled_dot_product_attention and fused AdamW; --compile adds
torch.compile, which needs a C++ compiler and some minutes.

One precision a process, since the peak of memory is the process's.
Needs: pip install torch
"""

import argparse
import json
import resource
import statistics
import time

import torch
from torch import nn
from torch.nn import functional

C, HEADS, LAYERS, VOCABULARY = 768, 12, 12, 50257


class Attention(nn.Module):
    def __init__(self, bias, dropout):
        super().__init__()
        self.c_attn = nn.Linear(C, 3 * C, bias=bias)
        self.c_proj = nn.Linear(C, C)
        self.dropout = dropout

    def forward(self, x):
        b, t, _ = x.shape
        heads = self.c_attn(x).view(b, t, 3, HEADS, C // HEADS).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(*heads, is_causal=True, dropout_p=self.dropout)
        return self.c_proj(y.transpose(1, 2).reshape(b, t, C))


class Block(nn.Module):
    def __init__(self, bias, dropout):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.attn = Attention(bias, dropout)
        self.mlp = nn.Sequential(nn.Linear(C, 4 * C), nn.GELU(approximate="tanh"), nn.Linear(4 * C, C))
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        x = x + self.drop(self.attn(self.ln_1(x)))
        return x + self.drop(self.mlp(self.ln_2(x)))


class Gpt(nn.Module):
    def __init__(self, tied, window, dropout):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCABULARY, C), nn.Embedding(window, C)
        self.drop = nn.Dropout(dropout)
        self.h = nn.ModuleList(Block(tied, dropout) for _ in range(LAYERS))
        self.ln_f = nn.LayerNorm(C)
        self.lm_head = nn.Linear(C, VOCABULARY, bias=False)
        if tied:
            self.lm_head.weight = self.wte.weight

    def forward(self, tokens):
        x = self.drop(self.wte(tokens) + self.wpe.weight[: tokens.shape[1]])
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=["book", "gpt2"], default="book")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--steps", type=int, default=6, help="timed steps, after two that are not")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--compile", action="store_true")
    return parser.parse_args()


def main():
    args = arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(123)
    model = Gpt(args.preset == "gpt2", args.window, args.dropout)
    forward = torch.compile(model) if args.compile else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-4, weight_decay=0.1, fused=True)
    milliseconds = []
    for _ in range(2 + args.steps):
        tokens = torch.randint(0, VOCABULARY, (args.batch_size, args.window + 1))
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        start = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=args.precision == "bf16"):
            loss = functional.cross_entropy(forward(inputs).flatten(0, 1), targets.flatten())
        loss.backward()
        optimizer.step()
        milliseconds.append(1e3 * (time.perf_counter() - start))
    step_ms = statistics.median(milliseconds[2:])
    print(json.dumps({
        "torch": torch.__version__, "preset": args.preset, "batch_size": args.batch_size, "window": args.window,
        "dropout": args.dropout, "precision": args.precision, "compiled": args.compile,
        "threads": torch.get_num_threads(), "step_ms": step_ms, "step_ms_min": min(milliseconds[2:]),
        "step_ms_max": max(milliseconds[2:]), "tokens_per_second": 1e3 * args.batch_size * args.window / step_ms,
        "peak_memory_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }))


if __name__ == "__main__":
    main()
